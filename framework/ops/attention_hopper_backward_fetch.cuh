// What the third warp group of the backward pass on Hopper does for the readers: one thread takes
// tickets and fetches keys and queries, one waits for the block's turns and one passes them on.
// Steps are counted through all items of the block. Private to framework/ops.
#pragma once

#include "framework/ops/attention_hopper_backward_shapes.cuh"

namespace polyhead::ops::attention_bf16 {

// Boxes of q and dout have kQueries rows, those of k, v, dk and dv 64.
struct BackwardMaps {
  CUtensorMap q, k, v, dout, dk, dv;
};

// A block of threads that stays takes its next ticket a step before it is done with an item, not
// earlier: items wait for those with lower tickets, and the lowest for none.
template <class Shape>
__device__ __forceinline__ void fetch_items(const Arguments& a, const Schedule& schedule,
                                            const BackwardSums& sums, const BackwardMaps& maps,
                                            const BackwardMemory<Shape>& memory) {
  constexpr int kKeys = Shape::kKeys, kQueries = Shape::kQueries;
  int step = 0;
  for (int use = 0; use == 0 || Shape::kStays; ++use) {
    memory.places.wait_empty(use);
    memory.queries.wait_empty(step);
    const ItemPlace place = place_of_ticket(schedule, atomicAdd(sums.ticket, 1));
    memory.places.tile(use).write(place);
    memory.places.full(use).arrive();
    if (place.column < 0) break;
    const typename Shape::Item item(a, place);
    memory.keys.wait_empty(use);
    const Barrier keys_full = memory.keys.full(use);
    if (item.count == 0) {
      keys_full.arrive();
      continue;
    }
    keys_full.arrive_and_announce(Shape::KeyTiles::kBytes);
    const auto fetch_keys = [&](const auto& tile, const CUtensorMap& map) {
      for (int dim = 0; dim < tile.kDim; dim += 64) {
        for (int part = 0; part < kKeys; part += 64) {
          copy_box(tile.address + dim / 64 * tile.kPanelBytes + part * 128, map, dim, item.group,
                   item.first_key + part, item.batch, keys_full);
        }
      }
    };
    fetch_keys(memory.keys.tile(use).k(), maps.k);
    fetch_keys(memory.keys.tile(use).v(), maps.v);
    const auto fetch_queries = [&](const auto& tile, const CUtensorMap& map, int query,
                                   Barrier full) {
      for (int dim = 0; dim < tile.kDim; dim += 64) {
        copy_box(tile.address + dim / 64 * tile.kPanelBytes, map, dim, item.head, query, item.batch,
                 full);
      }
    };
    for (int i = 0; i < item.count; ++i, ++step) {
      const int query = (item.begin + i * item.direction) * kQueries;
      const std::int64_t padded_row =
          static_cast<std::int64_t>(item.column) * a.padded_queries + query;
      memory.queries.wait_empty(step);
      const auto tiles = memory.queries.tile(step);
      const Barrier full = memory.queries.full(step);
      full.arrive_and_announce(tiles.kUsedBytes);
      fetch_queries(tiles.q(), maps.q, query, full);
      fetch_queries(tiles.dout(), maps.dout, query, full);
      copy_bytes(tiles.lse(), a.row_lse + padded_row, tiles.kStatisticsBytes, full);
      copy_bytes(tiles.delta(), a.row_delta + padded_row, tiles.kStatisticsBytes, full);
    }
  }
}

// Calls visit(step, turns, turn) with each step's counter of turns and the number of its turn.
template <class Shape, class Visit>
__device__ __forceinline__ void for_each_turn(const Arguments& a, const BackwardSums& sums,
                                              const BackwardMemory<Shape>& memory,
                                              const Visit& visit) {
  int step = 0;
  for (int use = 0; use == 0 || Shape::kStays; ++use) {
    memory.places.wait_full(use);
    const ItemPlace place = memory.places.tile(use).read();
    memory.places.empty(use).arrive();
    if (place.column < 0) return;
    const typename Shape::Item item(a, place);
    for (int i = 0; i < item.count; ++i, ++step) {
      const int query_block = item.begin + i * item.direction;
      visit(step, sums.turns + item.dq_block(a, query_block), item.turn_at(a, query_block));
    }
  }
}

// A turn begins for the readers when watch_turns has seen it come, for which it looks while the one
// before is used, and pass_turns_on has seen the one before used. So no barrier is a phase ahead of
// those that wait for it.
template <class Shape>
__device__ __forceinline__ void watch_turns(const Arguments& a, const BackwardSums& sums,
                                            const BackwardMemory<Shape>& memory) {
  for_each_turn(a, sums, memory, [&](int step, const int* turns, int turn) {
    while (load_flag(turns) != turn) __nanosleep(20);
    fence_device();
    if (step > 0) memory.turn_came.wait(step - 1);
    memory.turn_came.arrive();
  });
}
template <class Shape>
__device__ __forceinline__ void pass_turns_on(const Arguments& a, const BackwardSums& sums,
                                              const BackwardMemory<Shape>& memory) {
  memory.turn_came.arrive();
  for_each_turn(a, sums, memory, [&](int step, int* turns, int turn) {
    memory.turn_used.wait(step);
    memory.turn_came.arrive();
    fence_device();
    store_flag(turns, turn + 1);
  });
}

}  // namespace polyhead::ops::attention_bf16
