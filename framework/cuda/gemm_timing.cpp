#include "framework/cuda/gemm_timing.h"

#include <algorithm>
#include <memory>
#include <utility>

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/device_memory.h"
#include "framework/error.h"

namespace polyhead::cuda {
namespace {

// Two looks at the field: a short one drops what is clearly slower, a longer one decides.
constexpr int kFirstRounds = 3, kLastRounds = 12;
constexpr float kSlack = 1.1F;  // of the fastest median; stays in the race

class Event {
 public:
  Event() { POLYHEAD_CUDA(cudaEventCreate(&event_)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record() const { POLYHEAD_CUDA(cudaEventRecord(event_, Context::instance().stream())); }
  float milliseconds_since(const Event& begin) const {
    float milliseconds = 0;
    POLYHEAD_CUDA(cudaEventElapsedTime(&milliseconds, begin.event_, event_));
    return milliseconds;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// Memory of c's shape, outside of the pool, whose blocks are for good.
class Scratch {
 public:
  using Memory = DeviceMemory<Device::kCuda>;

  explicit Scratch(const GemmProblem& problem)
      : offset_(static_cast<std::size_t>(problem.alignment_c) % kFullAlignment),
        bytes_(static_cast<std::size_t>((problem.rows - 1) * problem.stride_c + problem.columns) *
               size_of(problem.output)),
        memory_(Memory::allocate(offset_ + bytes_)) {
    if (memory_ == nullptr) return;
    Memory::set_bytes(memory_.get(), 0, offset_ + bytes_);
  }

  explicit operator bool() const { return memory_ != nullptr; }
  void* data() const { return static_cast<std::byte*>(memory_.get()) + offset_; }

 private:
  struct Free {
    void operator()(void* memory) const { Memory::free(memory); }
  };
  static constexpr std::size_t kFullAlignment = 16;

  std::size_t offset_;  // makes the address as little aligned as c's
  std::size_t bytes_;
  std::unique_ptr<void, Free> memory_;
};

struct Runner {
  cublasLtMatmulAlgo_t algorithm;
  std::vector<float> milliseconds = {};

  float median() const {
    std::vector<float> sorted = milliseconds;
    std::ranges::sort(sorted);
    return sorted[sorted.size() / 2];
  }
};

class Race {
 public:
  Race(GemmPlan& plan, const void* a, const void* b, void* c) : plan_(plan), a_(a), b_(b), c_(c) {
    for (const cublasLtMatmulAlgo_t& algorithm : plan.candidates()) runners_.push_back({algorithm});
  }

  // The first product of an algorithm also loads its code.
  void warm_up() {
    for (Runner& runner : runners_) run(runner);
  }

  // All runners take turns, so that a change of the clock meets all of them.
  void measure(int rounds) {
    std::vector<std::pair<Event, Event>> spans(static_cast<std::size_t>(rounds) * runners_.size());
    const Context& context = Context::instance();
    auto span = spans.begin();
    for (int round = 0; round < rounds; ++round) {
      for (Runner& runner : runners_) {
        POLYHEAD_CUDA(
            cudaMemsetAsync(context.workspace(), 0, Context::kWorkspaceBytes, context.stream()));
        span->first.record();
        run(runner);
        span->second.record();
        ++span;
      }
    }
    context.synchronize();
    span = spans.begin();
    for (int round = 0; round < rounds; ++round) {
      for (Runner& runner : runners_) {
        runner.milliseconds.push_back(span->second.milliseconds_since(span->first));
        ++span;
      }
    }
  }

  void drop_slow() {
    const float limit = kSlack * fastest().median();
    std::erase_if(runners_, [&](const Runner& runner) { return runner.median() > limit; });
  }

  const Runner& fastest() const {
    return *std::ranges::min_element(runners_, {}, [](const Runner& r) { return r.median(); });
  }

 private:
  void run(const Runner& runner) {
    plan_.set_algorithm(runner.algorithm);
    plan_.run(a_, b_, c_, c_);
  }

  GemmPlan& plan_;
  const void* a_;
  const void* b_;
  void* c_;
  std::vector<Runner> runners_;
};

}  // namespace

cublasLtMatmulAlgo_t fastest_algorithm(GemmPlan& plan, const void* a, const void* b) {
  cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  POLYHEAD_CUDA(cudaStreamIsCapturing(Context::instance().stream(), &capture));
  POLYHEAD_CHECK(capture == cudaStreamCaptureStatusNone,
                 "the product {} has no algorithm yet and its stream is being captured",
                 plan.problem().to_string());
  const Scratch c(plan.problem());
  if (!c) return plan.candidates().front();
  Race race(plan, a, b, c.data());
  race.warm_up();
  race.measure(kFirstRounds);
  race.drop_slow();
  race.measure(kLastRounds);
  return race.fastest().algorithm;
}

}  // namespace polyhead::cuda
