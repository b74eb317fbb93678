// Tiles that one warp fetches ahead of those that compute with them. Private to framework/ops.
#pragma once

#include "framework/ops/attention_wgmma.cuh"

namespace polyhead::ops::attention_bf16 {

// Once for all lanes of the warp, behind what they have done so far.
__device__ __forceinline__ void arrive_as_warp(Barrier barrier) {
  __syncwarp();
  if (threadIdx.x % 32 == 0) barrier.arrive();
}

// A ring of tiles in shared memory, each with the barriers "full", where its copies report, and
// "empty", where all `readers` arrive when they are done with it. Uses are counted from 0; use i is
// in stage i % kStages.
template <class Tile, int kStages>
struct Ring {
  static constexpr int kBytes = kStages * Tile::kBytes, kBarrierBytes = 16 * kStages;

  std::uint32_t tiles, barriers;

  __device__ __forceinline__ Tile tile(int use) const {
    return {tiles + use % kStages * Tile::kBytes};
  }
  __device__ __forceinline__ Barrier full(int use) const { return {barriers + use % kStages * 16}; }
  __device__ __forceinline__ Barrier empty(int use) const {
    return {barriers + use % kStages * 16 + 8};
  }
  __device__ __forceinline__ void initialize(int readers) const {
    for (int stage = 0; stage < kStages; ++stage) {
      full(stage).initialize(1);
      empty(stage).initialize(readers);
    }
  }
  // The writer waits until the stage's last use has been read.
  __device__ __forceinline__ void wait_empty(int use) const {
    if (use >= kStages) empty(use).wait(use / kStages - 1);
  }
  __device__ __forceinline__ void wait_full(int use) const { full(use).wait(use / kStages); }
  // Where the readers are warps: all lanes of this one are done with the stage.
  __device__ __forceinline__ void release(int use) const { arrive_as_warp(empty(use)); }
};

}  // namespace polyhead::ops::attention_bf16
