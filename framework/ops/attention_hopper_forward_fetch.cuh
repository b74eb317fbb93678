// A block's shared memory in the forward pass on Hopper, and what its third warp group does for the
// readers: one thread takes tickets and fetches queries, keys and values, another stores out.
// Private to framework/ops.
#pragma once

#include "framework/ops/attention_bf16_forward.cuh"
#include "framework/ops/attention_hopper_items.cuh"

namespace polyhead::ops::attention_bf16 {

template <int kQkDim, int kVDim>
struct HopperForwardShape {
  static constexpr int kGroups = 2, kQueries = 64 * kGroups, kThreads = 128 * (kGroups + 1);
  static constexpr int kReaders = 4 * kGroups;  // warps
  // Of small heads two blocks share a multiprocessor, and one computes while the other begins or
  // ends; of large ones registers hold one block, which overlaps its own work.
  static constexpr bool kOverlaps = kVDim > 64;
  static constexpr int kBlocks = kOverlaps ? 1 : 2;  // on a multiprocessor
  static constexpr int kKeys = kOverlaps ? 128 : 64, kStages = kOverlaps ? 2 : 4;
  // Where shared memory holds the next item's queries, they are there when its turn comes.
  static constexpr int kQueryStages = kQkDim <= 128 ? 2 : 1;
  static constexpr int kRegisters = kOverlaps ? 240 : 104;

  using QTile = Panels<kQueries, kQkDim>;
  using KTile = Panels<kKeys, kQkDim>;
  using VTile = Panels<kKeys, kVDim>;
  using QRing = Ring<QTile, kQueryStages>;
  using KRing = Ring<KTile, kStages>;
  using VRing = Ring<VTile, kStages>;
  static_assert(kQkDim >= kVDim);  // out takes the place of q
  static constexpr int kTileBytes = QRing::kBytes + KRing::kBytes + VRing::kBytes;
  static constexpr int kSharedBytes = kTileBytes + PlaceRing::kBytes + QRing::kBarrierBytes +
                                      KRing::kBarrierBytes + VRing::kBarrierBytes +
                                      PlaceRing::kBarrierBytes + 8 * kQueryStages;
};

// Boxes of q and out have 64 rows, those of k and v kKeys.
struct ForwardMaps {
  CUtensorMap q, k, v, out;
};

template <class Shape>
struct ForwardMemory {
  __device__ __forceinline__ explicit ForwardMemory(std::uint32_t first_tile)
      : q{first_tile, first_tile + Shape::kTileBytes + PlaceRing::kBytes},
        k{q.tiles + Shape::QRing::kBytes, q.barriers + Shape::QRing::kBarrierBytes},
        v{k.tiles + Shape::KRing::kBytes, k.barriers + Shape::KRing::kBarrierBytes},
        places{v.tiles + Shape::VRing::kBytes, v.barriers + Shape::VRing::kBarrierBytes},
        out_barriers(places.barriers + PlaceRing::kBarrierBytes) {}

  __device__ __forceinline__ void initialize() const {
    q.initialize(1);
    k.initialize(Shape::kReaders);
    v.initialize(Shape::kReaders);
    places.initialize(Shape::kReaders + 1);
    for (int stage = 0; stage < Shape::kQueryStages; ++stage) {
      out_written(stage).initialize(Shape::kReaders);
    }
    publish_barriers();
  }

  // Of a stage of q: a warp group may write its rows of the next item's out, in the next stage,
  // before the other one has written those of this.
  __device__ __forceinline__ Barrier out_written(int use) const {
    return {out_barriers + use % Shape::kQueryStages * 8};
  }

  typename Shape::QRing q;  // empty when out has been stored
  typename Shape::KRing k;
  typename Shape::VRing v;
  PlaceRing places;
  std::uint32_t out_barriers;
};

// The blocks of keys that one of the queries sees are end_block - 1, end_block - 2, ..., `count` in
// all.
template <class Shape>
struct ForwardItem {
  int column, batch, head, group, first, end_block, count;

  __device__ __forceinline__ ForwardItem(const Arguments& a, const ItemPlace& place)
      : column(place.column),
        batch(column / a.heads),
        head(column % a.heads),
        group(head / a.heads_per_group),
        first(place.block * Shape::kQueries),
        end_block(end_block_of(a, first + Shape::kQueries)),
        count(max(0, end_block - first_block_of(a, first))) {}

  // Of the blocks of keys that queries [begin, end) see.
  __device__ __forceinline__ static int first_block_of(const Arguments& a, int begin) {
    return visible_keys(a, a.query_offset + begin).begin / Shape::kKeys;
  }
  __device__ __forceinline__ static int end_block_of(const Arguments& a, int end) {
    const int last = min(end, a.queries) - 1;
    return (visible_keys(a, a.query_offset + last).end + Shape::kKeys - 1) / Shape::kKeys;
  }
};

// 0 between two kernels, which never run at the same time.
static __device__ int forward_ticket;

__device__ __forceinline__ ItemPlace draw_item(const Schedule& schedule) {
  const int items = schedule.columns * schedule.rows;
  const int drawn = atomicAdd(&forward_ticket, 1);
  // Every block draws one that stands for nothing.
  if (drawn == items + static_cast<int>(gridDim.x) - 1) forward_ticket = 0;
  if (drawn >= items) return {-1, 0, false};
  const auto [column, row, last_section] = schedule.at(drawn);
  // Late queries see most keys: long work first, and short work fills the gaps at the end.
  return {column, schedule.rows - 1 - row, false};
}

template <class Shape>
__device__ __forceinline__ void fetch_items(const Arguments& a, const Schedule& schedule,
                                            const ForwardMaps& maps,
                                            const ForwardMemory<Shape>& memory) {
  using QTile = typename Shape::QTile;
  int first_use = 0;  // of the keys and values of an item
  for (int use = 0;; ++use) {
    memory.places.wait_empty(use);
    const ItemPlace place = draw_item(schedule);
    memory.places.tile(use).write(place);
    memory.places.full(use).arrive();
    if (place.column < 0) return;
    const ForwardItem<Shape> item(a, place);
    memory.q.wait_empty(use);
    const Barrier q_full = memory.q.full(use);
    if (item.count == 0) {
      q_full.arrive();
      continue;
    }
    q_full.arrive_and_announce(QTile::kBytes);
    const QTile q_tile = memory.q.tile(use);
    for (int part = 0; part < Shape::kQueries; part += 64) {
      for (int dim = 0; dim < QTile::kDim; dim += 64) {
        copy_box(q_tile.address + dim / 64 * QTile::kPanelBytes + part * 128, maps.q, dim,
                 item.head, item.first + part, item.batch, q_full);
      }
    }
    const auto fetch = [&](const auto& ring, const CUtensorMap& map, int i) {
      const auto tile = ring.tile(first_use + i);
      const Barrier full = ring.full(first_use + i);
      ring.wait_empty(first_use + i);
      full.arrive_and_announce(tile.kBytes);
      for (int dim = 0; dim < tile.kDim; dim += 64) {
        copy_box(tile.address + dim / 64 * tile.kPanelBytes, map, dim, item.group,
                 (item.end_block - 1 - i) * Shape::kKeys, item.batch, full);
      }
    };
    for (int i = 0; i < item.count; ++i) {
      fetch(memory.k, maps.k, i);
      fetch(memory.v, maps.v, i);
    }
    first_use += item.count;
  }
}

template <class Shape>
__device__ __forceinline__ void store_out(const Arguments& a, const ForwardMaps& maps,
                                          const ForwardMemory<Shape>& memory) {
  for (int use = 0;; ++use) {
    memory.places.wait_full(use);
    const ItemPlace place = memory.places.tile(use).read();
    memory.places.empty(use).arrive();
    if (place.column < 0) return;
    const ForwardItem<Shape> item(a, place);
    memory.out_written(use).wait(use / Shape::kQueryStages);
    for (int part = 0; part < Shape::kQueries; part += 64) {
      for (int dim = 0; dim < Shape::VTile::kDim; dim += 64) {
        store_box(memory.q.tile(use).address + dim / 64 * Shape::QTile::kPanelBytes + part * 128,
                  maps.out, dim, item.head, item.first + part, item.batch);
      }
    }
    wait_for_stores();
    memory.q.empty(use).arrive();
  }
}

}  // namespace polyhead::ops::attention_bf16
