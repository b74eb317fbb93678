#include "framework/recorded_work.h"

#include <cuda_runtime_api.h>

#include "framework/buffer.h"
#include "framework/comm/hang.h"
#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/error.h"

namespace polyhead {
namespace {

class Graph final : public RecordedWork {
 public:
  explicit Graph(const std::function<void()>& work) : scratch_(Device::kCuda) {
    const std::int64_t collectives = collectives_enqueued();
    const cudaStream_t stream = cuda::Context::instance().stream();
    // Relaxed: the pool may need another block, and memory is no part of the graph.
    POLYHEAD_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed));
    cudaGraph_t graph = nullptr;
    try {
      work();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      cudaGetLastError();  // the capture is void, and the next launch must not hear of it
      throw;
    }
    POLYHEAD_CUDA(cudaStreamEndCapture(stream, &graph));
    scratch_.close();
    communicates_ = collectives_enqueued() > collectives;
    const cudaError_t status = cudaGraphInstantiate(&executable_, graph, 0);
    cudaGraphDestroy(graph);
    cuda::check(status, "cudaGraphInstantiate");
  }
  ~Graph() override {
    if (executable_ != nullptr) cudaGraphExecDestroy(executable_);
  }

  void play() const override {
    POLYHEAD_CHECK(scratch_.at_rest(), "a tensor lies in the scratch of recorded work");
    POLYHEAD_CUDA(cudaGraphLaunch(executable_, cuda::Context::instance().stream()));
    if (communicates_) enqueued_on_device_again();
  }

 private:
  ScratchBlocks scratch_;
  cudaGraphExec_t executable_ = nullptr;
  bool communicates_ = false;
};

}  // namespace

template <>
std::unique_ptr<RecordedWork> WorkRecorder<Device::kCuda>::record(
    const std::function<void()>& work) {
  return std::make_unique<Graph>(work);
}

}  // namespace polyhead
