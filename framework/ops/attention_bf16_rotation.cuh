// Turns gradients of q and k back by the angles of a rotary embedding while they lie in a tile.
// Private to framework/ops.
#pragma once

#include "framework/ops/attention_bf16_tiles.cuh"
#include "framework/ops/rope_rotation.cuh"

namespace polyhead::ops::attention_bf16 {

// kRows rows of a tile from `first` on, by kThreads threads of which `thread` is one. The tile's
// row 0 is the row `position` of its sequence, which ends `count` rows later. Barriers before and
// behind are the caller's.
template <int kThreads, int kRows, class Tile>
__device__ __forceinline__ void rotate_back(const Tile& tile, const Angles& angles, int thread,
                                            int first, int position, int count) {
  const int pairs = angles.half / 8;
  for (int i = thread; i < kRows * pairs; i += kThreads) {
    const int row = first + i / pairs, index = i % pairs;
    if (row >= count) continue;
    const std::uint32_t low = tile.chunk(row, index), high = tile.chunk(row, index + pairs);
    auto x = load_shared_pack(low), y = load_shared_pack(high);
    const std::int64_t angle = static_cast<std::int64_t>(position + row) * angles.half + index * 8;
    rotate_packs(angles.cos + angle, angles.sin + angle, -1.0f, x, y);
    store_shared_pack(low, x);
    store_shared_pack(high, y);
  }
}

// The same for sums of two rows in registers, all of whose 8 kN dimensions are rotated, to the same
// bits: each of four threads has two neighbouring columns of every eight, as Hopper's products
// leave them.
template <int kN>
class SumAngles {
 public:
  // Of rows `row` and row + 8 of the sequence, or of its last one.
  __device__ __forceinline__ void load(const Angles& angles, int row, int lane, int rows) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const std::int64_t first = std::int64_t{min(row + 8 * half, rows - 1)} * (4 * kN);
#pragma unroll
      for (int n = 0; n < kN / 2; ++n) {
        const std::int64_t angle = first + 8 * n + lane % 4 * 2;
        cos_[half][n] = *reinterpret_cast<const float2*>(angles.cos + angle);
        sin_[half][n] = *reinterpret_cast<const float2*>(angles.sin + angle);
      }
    }
  }

  // Rounds sums times `factor` to bf16 and turns them.
  __device__ __forceinline__ void turn_back(float factor, Sum (&c)[kN]) const {
#pragma unroll
    for (int n = 0; n < kN / 2; ++n) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const float2 cos = cos_[i / 2][n], sin = sin_[i / 2][n];
        turn(factor, i % 2 == 0 ? cos.x : cos.y, i % 2 == 0 ? sin.x : sin.y, c[n].element[i],
             c[n + kN / 2].element[i]);
      }
    }
  }

 private:
  __device__ __forceinline__ static float rounded(float x) {
    return __bfloat162float(__float2bfloat16_rn(x));
  }
  __device__ __forceinline__ static void turn(float factor, float cos, float sin, float& first,
                                              float& second) {
    const float x = rounded(factor * first), y = rounded(factor * second);
    first = fmaf(x, cos, y * sin);
    second = fmaf(y, cos, -(x * sin));
  }

  float2 cos_[2][kN / 2] = {}, sin_[2][kN / 2] = {};
};

}  // namespace polyhead::ops::attention_bf16
