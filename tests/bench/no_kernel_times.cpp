#include "framework/error.h"
#include "tests/bench/kernel_times.h"

namespace polyhead::bench {

KernelTimes::KernelTimes() {
  fail("--kernels: this binary was built without CUPTI, which CUDA 13 brings in cuda-cupti-dev");
}
KernelTimes::~KernelTimes() = default;
void KernelTimes::restart() {}
std::vector<KernelTime> KernelTimes::finish() {
  return {};
}

}  // namespace polyhead::bench
