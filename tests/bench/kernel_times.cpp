#include "tests/bench/kernel_times.h"

#include <cupti.h>
#include <cxxabi.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <memory>

#include "framework/error.h"

namespace polyhead::bench {
namespace {

constexpr std::size_t kBufferBytes = 8 << 20;
constexpr std::size_t kBufferAlignment = 8;

constexpr CUpti_ActivityKind kKinds[] = {CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL,
                                         CUPTI_ACTIVITY_KIND_MEMSET, CUPTI_ACTIVITY_KIND_MEMCPY};

void check(CUptiResult result, const char* call) {
  if (result == CUPTI_SUCCESS) return;
  const char* text = nullptr;
  cuptiGetResultString(result, &text);
  fail("CUPTI: {} in {}; is another profiler running?", text == nullptr ? "unknown error" : text,
       call);
}

std::string demangled(const char* name) {
  int status = 0;
  const std::unique_ptr<char, decltype(&std::free)> text(
      abi::__cxa_demangle(name, nullptr, nullptr, &status), &std::free);
  return status == 0 ? text.get() : name;
}

// CUPTI's threads hand full buffers over; cuptiActivityFlushAll returns behind the last of them.
std::map<std::string, KernelTime> times;
std::uint64_t begin = 0;

void add(const std::string& name, std::uint64_t start, std::uint64_t end) {
  if (start < begin) return;
  KernelTime& time = times[name];
  ++time.calls;
  time.milliseconds += static_cast<double>(end - start) * 1e-6;
}

void add(const CUpti_Activity& record) {
  switch (record.kind) {
    case CUPTI_ACTIVITY_KIND_CONCURRENT_KERNEL: {
      const auto& kernel = reinterpret_cast<const CUpti_ActivityKernel10&>(record);
      return add(kernel.name, kernel.start, kernel.end);
    }
    case CUPTI_ACTIVITY_KIND_MEMSET: {
      const auto& memset = reinterpret_cast<const CUpti_ActivityMemset4&>(record);
      return add("memset", memset.start, memset.end);
    }
    case CUPTI_ACTIVITY_KIND_MEMCPY: {
      const auto& memcpy = reinterpret_cast<const CUpti_ActivityMemcpy6&>(record);
      return add("memcpy", memcpy.start, memcpy.end);
    }
    default:
      return;
  }
}

void CUPTIAPI give_buffer(std::uint8_t** buffer, std::size_t* size, std::size_t* most_records) {
  *buffer = static_cast<std::uint8_t*>(std::aligned_alloc(kBufferAlignment, kBufferBytes));
  *size = *buffer == nullptr ? 0 : kBufferBytes;
  *most_records = 0;  // as many as fit
}

void CUPTIAPI take_buffer(CUcontext, std::uint32_t, std::uint8_t* buffer, std::size_t,
                          std::size_t valid) {
  const std::unique_ptr<std::uint8_t, decltype(&std::free)> owned(buffer, &std::free);
  CUpti_Activity* record = nullptr;
  while (cuptiActivityGetNextRecord(buffer, valid, &record) == CUPTI_SUCCESS) add(*record);
}

}  // namespace

KernelTimes::KernelTimes() {
  check(cuptiActivityRegisterCallbacks(give_buffer, take_buffer), "ActivityRegisterCallbacks");
  for (const CUpti_ActivityKind kind : kKinds) check(cuptiActivityEnable(kind), "ActivityEnable");
}

KernelTimes::~KernelTimes() {
  for (const CUpti_ActivityKind kind : kKinds) cuptiActivityDisable(kind);
  cuptiActivityFlushAll(CUPTI_ACTIVITY_FLAG_FLUSH_FORCED);
}

void KernelTimes::restart() {
  check(cuptiActivityFlushAll(0), "ActivityFlushAll");
  times.clear();
  check(cuptiGetTimestamp(&begin), "GetTimestamp");
}

std::vector<KernelTime> KernelTimes::finish() {
  check(cuptiActivityFlushAll(0), "ActivityFlushAll");
  std::vector<KernelTime> sorted;
  for (auto& [name, time] : times) {
    time.name = demangled(name.c_str());
    sorted.push_back(time);
  }
  std::ranges::sort(sorted, std::greater(), &KernelTime::milliseconds);
  return sorted;
}

}  // namespace polyhead::bench
