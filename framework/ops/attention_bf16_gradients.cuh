// From the f32 sums of the backward kernel to gradients in bf16. Private to framework/ops.
#pragma once

#include "framework/ops/attention_bf16_backward.cuh"

namespace polyhead::ops::attention_bf16 {

// One gradient: blocks of kRows rows of each head, each the sum of `parts`.
struct GradientSums {
  const float* sums;  // (parts, B, heads, blocks, kRows * kDim)
  const int*
      additions;  // (B, heads, blocks): of blocks where it is 0 nothing has been written; or null
  int parts;
  std::int64_t part_size;  // floats
  int heads, blocks;
  int rows;  // of a sequence
  float factor;
  bool aligned;
};

// A block makes kRows rows of one head. kWarps and the order of the sums are the backward kernel's.
template <int kRows, int kDim, int kWarps>
__global__ void __launch_bounds__(32 * kWarps)
    gradient_kernel(const __grid_constant__ GradientSums g, const __grid_constant__ Heads to) {
  constexpr int kThreads = 32 * kWarps, kWarpColumns = kWarps / 2;
  constexpr int kM = kRows / 32, kN = kDim / 8 / kWarpColumns;
  using GradientTile = Tile<kRows, kDim>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const GradientTile tile{shared_address(memory)};
  const int thread = static_cast<int>(threadIdx.x);
  const int index = static_cast<int>(blockIdx.x), block = index % g.blocks;
  const int head = index / g.blocks % g.heads, batch = index / g.blocks / g.heads;

  Sum total[kM][kN];
  if (g.additions == nullptr || g.additions[index] > 0) {
    const float* const first =
        g.sums + static_cast<std::int64_t>(index) * (kRows * kDim) + 4 * thread;
    for (int part = 0; part < g.parts; ++part) {
      const float* const from = first + part * g.part_size;
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          const float4 sum = *reinterpret_cast<const float4*>(from + (m * kN + n) * 4 * kThreads);
          float* const e = total[m][n].element;
          e[0] += sum.x, e[1] += sum.y, e[2] += sum.z, e[3] += sum.w;
        }
      }
    }
  }
  const int warp = thread / 32;
  store_sums(total, g.factor, Place<2, kWarpColumns>(thread, warp % 2, warp / 2), tile);
  __syncthreads();
  const int first_row = block * kRows;
  store_tile<kThreads, kRows, true>(
      tile, thread, 0, to.at(static_cast<std::int64_t>(batch) * g.rows + first_row, head), to,
      g.rows - first_row, g.aligned);
}

}  // namespace polyhead::ops::attention_bf16
