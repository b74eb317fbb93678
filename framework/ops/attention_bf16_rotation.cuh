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

}  // namespace polyhead::ops::attention_bf16
