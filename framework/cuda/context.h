// The CUDA device of this process: one rank, one device, one stream for what it computes and one
// for what it tells other devices.
//
// All ops are launched on stream() in the order of the program; none waits for the host. The device
// is the one that DeviceSystem<Device::kCuda>::use chose.
#pragma once

#include <cublasLt.h>
#include <cuda_runtime_api.h>

#include <cstddef>
#include <string>
#include <vector>

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

  // Communication between a fork and a join runs beside the computation. Events order the two
  // streams, so the host never waits, and a graph captured from stream() contains both, provided
  // that every mark made in the capture is joined in it.
  cudaStream_t communication_stream() const { return communication_stream_; }
  // What is enqueued for communication from now on begins after all that stream() holds so far.
  void fork_communication();
  // The end of what is enqueued for communication so far.
  cudaEvent_t mark_communication();
  // What is enqueued on stream() from now on begins after the mark, which this takes back.
  void join_communication(cudaEvent_t mark);

  int multiprocessors() const { return multiprocessors_; }
  std::size_t shared_bytes_of_block() const { return shared_bytes_of_block_; }  // at most
  int compute_capability() const { return compute_capability_; }                // 90 for Hopper
  const std::string& name() const { return name_; }

  // The host waits for all work on stream(). If that waits for other ranks in vain, the job ends
  // (framework/comm/hang.h).
  void synchronize() const;

 private:
  Context();

  cudaStream_t stream_ = nullptr;
  cudaStream_t communication_stream_ = nullptr;
  cudaEvent_t fork_ = nullptr;
  std::vector<cudaEvent_t> free_marks_;  // as many as were ever pending at once
  cublasLtHandle_t blas_ = nullptr;
  void* workspace_ = nullptr;
  int multiprocessors_ = 0;
  std::size_t shared_bytes_of_block_ = 0;
  int compute_capability_ = 0;
  std::string name_;
};

}  // namespace polyhead::cuda
