// Launches whose beginning overlaps the end of the kernel before (programmatic dependent launch,
// Hopper): the blocks are brought to the multiprocessors while that kernel still runs, and wait
// there. The order of memory accesses is that of ordinary launches.
#pragma once

#include <cuda_runtime.h>

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"

namespace polyhead::cuda {

// The first statement of every kernel that `launch` is given, for all threads. Returns when all the
// work before this kernel on the stream is complete and its writes are seen; then lets the blocks
// of the next kernel come.
__device__ __forceinline__ void wait_for_work_before() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;\n" ::: "memory");
  asm volatile("griddepcontrol.launch_dependents;\n" ::: "memory");
#endif
}

// Code for sm_80, which knows no such wait, may run on Hopper too.
inline bool launches_overlap() {
  return POLYHEAD_HOPPER != 0 && Context::instance().compute_capability() == 90;
}

// kernel<<<blocks, threads, shared_bytes>>>(values...) on the context's stream, with clusters of
// `cluster` neighbouring blocks (framework/cuda/cluster.cuh); `name` tells the kernel in messages.
template <class... Parameters, class... Values>
void launch_clusters(const char* name, void (*kernel)(Parameters...), dim3 blocks, int cluster,
                     dim3 threads, std::size_t shared_bytes, const Values&... values) {
  cudaLaunchAttribute attributes[2]{};
  cudaLaunchConfig_t config{};
  config.gridDim = blocks;
  config.blockDim = threads;
  config.dynamicSmemBytes = shared_bytes;
  config.stream = Context::instance().stream();
  config.attrs = attributes;
  if (launches_overlap()) {
    cudaLaunchAttribute& overlap = attributes[config.numAttrs++];
    overlap.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    overlap.val.programmaticStreamSerializationAllowed = 1;
  }
  if (cluster > 1) {
    cudaLaunchAttribute& shape = attributes[config.numAttrs++];
    shape.id = cudaLaunchAttributeClusterDimension;
    shape.val.clusterDim = {static_cast<unsigned>(cluster), 1, 1};
  }
  check(cudaLaunchKernelEx(&config, kernel, Parameters(values)...), name);
}

// The same without clusters.
template <class... Parameters, class... Values>
void launch(const char* name, void (*kernel)(Parameters...), dim3 blocks, dim3 threads,
            std::size_t shared_bytes, const Values&... values) {
  launch_clusters(name, kernel, blocks, 1, threads, shared_bytes, values...);
}

}  // namespace polyhead::cuda
