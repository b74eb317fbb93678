#include "framework/cuda/context.h"

#include "framework/comm/hang.h"
#include "framework/cuda/check.h"
#include "framework/error.h"

namespace polyhead::cuda {
namespace {

cudaEvent_t make_event() {
  cudaEvent_t event = nullptr;
  POLYHEAD_CUDA(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return event;
}

}  // namespace

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
  shared_bytes_of_block_ = properties.sharedMemPerBlockOptin;
  compute_capability_ = 10 * properties.major + properties.minor;
  require(compute_capability_ >= 80,
          "device {} ({}) has compute capability {}.{}; the kernels need 8.0 or later", device,
          name_, properties.major, properties.minor);
  POLYHEAD_CUDA(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
  // Others wait for what this device sends, so messages go first where both could run.
  int lowest = 0, highest = 0;
  POLYHEAD_CUDA(cudaDeviceGetStreamPriorityRange(&lowest, &highest));
  POLYHEAD_CUDA(
      cudaStreamCreateWithPriority(&communication_stream_, cudaStreamNonBlocking, highest));
  fork_ = make_event();
  require(cublasLtCreate(&blas_) == CUBLAS_STATUS_SUCCESS, "cublasLt cannot be initialised on {}",
          name_);
  POLYHEAD_CUDA(cudaMalloc(&workspace_, kWorkspaceBytes));
}

void Context::fork_communication() {
  POLYHEAD_CUDA(cudaEventRecord(fork_, stream_));
  POLYHEAD_CUDA(cudaStreamWaitEvent(communication_stream_, fork_, 0));
}

cudaEvent_t Context::mark_communication() {
  if (free_marks_.empty()) free_marks_.push_back(make_event());
  const cudaEvent_t mark = free_marks_.back();
  free_marks_.pop_back();
  POLYHEAD_CUDA(cudaEventRecord(mark, communication_stream_));
  return mark;
}

void Context::join_communication(cudaEvent_t mark) {
  POLYHEAD_CUDA(cudaStreamWaitEvent(stream_, mark, 0));
  free_marks_.push_back(mark);
}

void Context::synchronize() const {
  POLYHEAD_CUDA(cudaStreamSynchronize(stream_));
  device_has_ended();
}

}  // namespace polyhead::cuda
