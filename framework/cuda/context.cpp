#include "framework/cuda/context.h"

#include "framework/cuda/check.h"
#include "framework/error.h"

namespace polyhead::cuda {

void check(cudaError_t status, const char* call) {
  if (status == cudaSuccess) [[likely]]
    return;
  fail("CUDA: {} ({}) in {}", cudaGetErrorString(status), cudaGetErrorName(status), call);
}

Context& Context::instance() {
  static Context* const context = new Context;
  return *context;
}

Context::Context() {
  int device = 0;
  POLYHEAD_CUDA(cudaGetDevice(&device));
  cudaDeviceProp properties;
  POLYHEAD_CUDA(cudaGetDeviceProperties(&properties, device));
  name_ = properties.name;
  multiprocessors_ = properties.multiProcessorCount;
  compute_capability_ = 10 * properties.major + properties.minor;
  require(compute_capability_ >= 80,
          "device {} ({}) has compute capability {}.{}; the kernels need 8.0 or later", device,
          name_, properties.major, properties.minor);
  POLYHEAD_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  require(cublasLtCreate(&blas_) == CUBLAS_STATUS_SUCCESS, "cublasLt cannot be initialised on {}",
          name_);
  POLYHEAD_CUDA(cudaMalloc(&workspace_, kWorkspaceBytes));
}

void Context::synchronize() const {
  POLYHEAD_CUDA(cudaStreamSynchronize(stream_));
}

}  // namespace polyhead::cuda
