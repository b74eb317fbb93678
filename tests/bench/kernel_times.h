// Which kernels a stretch of a device's work spends its time in.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace polyhead::bench {

struct KernelTime {
  std::string name;  // demangled; also "memset" and "memcpy"
  std::int64_t calls = 0;
  double milliseconds = 0;  // of all calls
};

// By CUPTI, of this process's device, kernels of played recordings included. Costs a few
// microseconds a kernel on the host, and kernels that would overlap may follow each other. One at a
// time, made before the first work on the device. Throws Error where CUPTI is missing or another
// profiler holds it.
class KernelTimes {
 public:
  KernelTimes();
  ~KernelTimes();
  KernelTimes(const KernelTimes&) = delete;
  KernelTimes& operator=(const KernelTimes&) = delete;

  // Forgets what was so far.
  void restart();
  // What was since then, the longest first. The device's work must have ended.
  std::vector<KernelTime> finish();
};

}  // namespace polyhead::bench
