// Blocks of threads that stay on Hopper take one item of work after another: one warp draws a
// ticket, and tells the others in shared memory what it stands for. Private to framework/ops.
#pragma once

#include "framework/ops/attention_hopper_ring.cuh"

namespace polyhead::ops::attention_bf16 {

struct ItemPlace {
  int column;      // of heads; -1: none is left
  int block;       // of queries, in the backward pass of keys
  bool ascending;  // the order of its blocks in the backward pass
};

// In shared memory.
struct ItemPlaceWord {
  static constexpr int kBytes = 8;

  std::uint32_t address;

  __device__ __forceinline__ void write(const ItemPlace& place) const {
    store_shared(address, static_cast<std::uint32_t>(place.column));
    store_shared(address + 4, static_cast<std::uint32_t>(2 * place.block + place.ascending));
  }
  __device__ __forceinline__ ItemPlace read() const {
    const int second = load_shared_int(address + 4);
    return {load_shared_int(address), second / 2, second % 2 != 0};
  }
};
using PlaceRing = Ring<ItemPlaceWord, 2>;

// The next place of the ring, for all lanes of a reading warp.
__device__ __forceinline__ ItemPlace next_place(const PlaceRing& places, int use) {
  places.wait_full(use);
  const ItemPlace place = places.tile(use).read();
  places.release(use);
  return {same_in_warp(place.column), same_in_warp(place.block),
          same_in_warp(place.ascending) != 0};
}

}  // namespace polyhead::ops::attention_bf16
