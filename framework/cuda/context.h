// The CUDA device of this process: one rank, one device, one stream.
//
// All ops are launched on stream() in the order of the program; none waits for the host. The device
// is the one that DeviceSystem<Device::kCuda>::use chose.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>

namespace polyhead::cuda {

class Context {
 public:
  // The process's context, made on first use and never destroyed: tensors with static lifetime may
  // outlive any other order.
  static Context& instance();

  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  cudaStream_t stream() const { return stream_; }
  cublasLtHandle_t blas() const { return blas_; }
  void* workspace() const { return workspace_; }  // of the BLAS, in the order of the stream
  static constexpr std::size_t kWorkspaceBytes = std::size_t{64} << 20;

  int multiprocessors() const { return multiprocessors_; }
  int compute_capability() const { return compute_capability_; }  // 90 for Hopper
  const std::string& name() const { return name_; }

  // The host waits for all work on the stream. If that waits for other ranks in vain, the job ends
  // (framework/comm/hang.h).
  void synchronize() const;

 private:
  Context();

  cudaStream_t stream_ = nullptr;
  cublasLtHandle_t blas_ = nullptr;
  void* workspace_ = nullptr;
  int multiprocessors_ = 0;
  int compute_capability_ = 0;
  std::string name_;
};

}  // namespace polyhead::cuda
