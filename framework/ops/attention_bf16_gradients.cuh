// From the f32 sums of the backward kernels to gradients in bf16. Private to framework/ops.
#pragma once

#include "framework/ops/attention_bf16_backward.cuh"
#include "framework/ops/attention_bf16_rotation.cuh"

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
  Angles angles;
  bool aligned;
};

// Where the sums c[m][n] of a thread of backward_kernel lie, elements 0 and 1; see Place.
template <int kRowCount, int kDimension, int kWarps>
struct TurnsLayout {
  static constexpr int kRows = kRowCount, kDim = kDimension, kThreads = 32 * kWarps;
  static constexpr int kColumns = kWarps / 2, kM = kRows / 32, kN = kDim / 8 / kColumns;

  __device__ __forceinline__ static int row(int thread, int m) { return place(thread).row(m); }
  __device__ __forceinline__ static int column(int thread, int n) {
    return place(thread).column(n);
  }

 private:
  __device__ __forceinline__ static auto place(int thread) {
    return Place<2, kColumns>(thread, thread / 32 % 2, thread / 64);
  }
};

// A block makes kRows rows of one head.
template <class Layout>
__global__ void __launch_bounds__(Layout::kThreads)
    gradient_kernel(const __grid_constant__ GradientSums g, const __grid_constant__ Heads to) {
  cuda::wait_for_work_before();
  constexpr int kRows = Layout::kRows, kThreads = Layout::kThreads;
  constexpr int kM = Layout::kM, kN = Layout::kN;
  using GradientTile = Tile<kRows, Layout::kDim>;
  extern __shared__ __align__(1024) unsigned char memory[];
  const GradientTile tile{shared_address(memory)};
  const int thread = static_cast<int>(threadIdx.x);
  // The last sequences first: their sums are still in the L2 cache.
  const int index = static_cast<int>(gridDim.x - 1 - blockIdx.x), block = index % g.blocks;
  const int head = index / g.blocks % g.heads, batch = index / g.blocks / g.heads;

  Sum total[kM][kN];
  if (g.additions == nullptr || g.additions[index] > 0) {
    const float* const first =
        g.sums + static_cast<std::int64_t>(index) * (kRows * Layout::kDim) + 4 * thread;
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
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const float* const e = total[m][n].element;
      const int row = Layout::row(thread, m), column = Layout::column(thread, n);
      const std::uint32_t to = tile.chunk(row, column / 8) + column % 8 * 2;
      store_shared(to, pack(g.factor * e[0], g.factor * e[1]));
      store_shared(GradientTile::moved(to, 8, 0), pack(g.factor * e[2], g.factor * e[3]));
    }
  }
  __syncthreads();
  const int first_row = block * kRows;
  if (g.angles.half > 0) {
    rotate_back<kThreads, kRows>(tile, g.angles, thread, 0, first_row, g.rows - first_row);
    __syncthreads();
  }
  store_tile<kThreads, kRows, true>(
      tile, thread, 0, to.at(static_cast<std::int64_t>(batch) * g.rows + first_row, head), to,
      g.rows - first_row, g.aligned);
}

}  // namespace polyhead::ops::attention_bf16
