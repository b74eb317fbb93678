// Clusters (Hopper): a few blocks of a kernel that run at the same time and write into each other's
// shared memory. Where the device or the code compiled for it has none, a cluster is one block.
#pragma once

#include <cuda_runtime.h>

#include "framework/cuda/launch.cuh"

namespace polyhead::cuda {

inline constexpr int kMostClusterBlocks = 8;  // that every device with clusters runs
inline int most_cluster_blocks() {
  return launches_overlap() ? kMostClusterBlocks : 1;
}

__device__ __forceinline__ int cluster_rank() {
  unsigned rank = 0;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
#endif
  return static_cast<int>(rank);
}
__device__ __forceinline__ int cluster_size() {
  unsigned size = 1;
#if __CUDA_ARCH__ >= 900
  asm("mov.u32 %0, %%cluster_nctarank;" : "=r"(size));
#endif
  return static_cast<int>(size);
}

// All threads of the cluster arrive, and later wait until all have arrived. What they wrote to
// shared memory before they arrived is then seen.
__device__ __forceinline__ void cluster_arrive() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.arrive.release.aligned;\n" ::: "memory");
#endif
}
__device__ __forceinline__ void cluster_wait() {
#if __CUDA_ARCH__ >= 900
  asm volatile("barrier.cluster.wait.acquire.aligned;\n" ::: "memory");
#else
  __syncthreads();
#endif
}

// Writes to where block `rank` of the cluster has `to`, a variable in shared memory; that block
// must be known to run, by a barrier of the cluster.
__device__ __forceinline__ void store_in_cluster(float2* to, int rank, float2 value) {
#if __CUDA_ARCH__ >= 900
  const auto own = static_cast<unsigned>(__cvta_generic_to_shared(to));
  asm volatile(
      "{\n.reg .b32 there;\n"
      "mapa.shared::cluster.u32 there, %0, %1;\n"
      "st.shared::cluster.v2.f32 [there], {%2, %3};\n}\n" ::"r"(own),
      "r"(rank), "f"(value.x), "f"(value.y)
      : "memory");
#else
  *to = value;
#endif
}

}  // namespace polyhead::cuda
