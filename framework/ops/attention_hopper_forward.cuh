// Forward pass in bf16 on Hopper (FlashAttention-3, Shah et al. 2024), for what needs no general
// code (attention_bf16_instances.h). A block owns kQueries rows of one head, each of its warp
// groups 64 of them; a warp of one more group lets the tensor memory accelerator fetch keys and
// values, as far ahead as shared memory holds. The softmax of one block of keys runs while the
// tensor cores are at the weights and values of the block before. Private to framework/ops.
#pragma once

#include "framework/ops/attention_bf16_forward.cuh"
#include "framework/ops/attention_hopper_ring.cuh"

namespace polyhead::ops::attention_bf16 {

template <int kQkDim, int kVDim>
struct HopperForwardShape {
  static constexpr int kGroups = 2, kQueries = 64 * kGroups, kThreads = 128 * (kGroups + 1);
  // Of small heads two blocks share a multiprocessor, and one computes while the other begins or
  // ends; of large ones registers hold one block, which overlaps its own work.
  static constexpr bool kOverlaps = kVDim > 64;
  static constexpr int kBlocks = kOverlaps ? 1 : 2;  // on a multiprocessor
  static constexpr int kKeys = kOverlaps ? 128 : 64, kStages = kOverlaps ? 2 : 4;
  static constexpr int kRegisters = kOverlaps ? 240 : 104;

  using QTile = Panels<kQueries, kQkDim>;
  using KTile = Panels<kKeys, kQkDim>;
  using VTile = Panels<kKeys, kVDim>;
  static_assert(kQkDim >= kVDim);  // out takes the place of q
  static constexpr int kTileBytes = QTile::kBytes + kStages * (KTile::kBytes + VTile::kBytes);
  static constexpr int kSharedBytes = kTileBytes + 8 * (1 + 4 * kStages);
};

// Boxes of q and out have 64 rows, those of k and v kKeys.
struct ForwardMaps {
  CUtensorMap q, k, v, out;
};

template <int kQkDim, int kVDim>
__global__ void __launch_bounds__(HopperForwardShape<kQkDim, kVDim>::kThreads,
                                  HopperForwardShape<kQkDim, kVDim>::kBlocks)
    hopper_forward_kernel(const __grid_constant__ Arguments a,
                          const __grid_constant__ Schedule schedule,
                          const __grid_constant__ ForwardMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  cuda::wait_for_work_before();
  using Shape = HopperForwardShape<kQkDim, kVDim>;
  using KRing = Ring<typename Shape::KTile, Shape::kStages>;
  using VRing = Ring<typename Shape::VTile, Shape::kStages>;
  constexpr int kQueries = Shape::kQueries, kKeys = Shape::kKeys;
  constexpr int kReaders = 4 * Shape::kGroups;  // warps
  extern __shared__ __align__(1024) unsigned char memory[];
  const typename Shape::QTile q_tile{shared_address(memory)};
  const std::uint32_t barriers = q_tile.address + Shape::kTileBytes;
  const Barrier q_full{barriers};
  const KRing k_ring{q_tile.address + Shape::QTile::kBytes, barriers + 8};
  const VRing v_ring{k_ring.tiles + KRing::kBytes, k_ring.barriers + KRing::kBarrierBytes};
  if (threadIdx.x == 0) {
    q_full.initialize(1);
    k_ring.initialize(kReaders);
    v_ring.initialize(kReaders);
    publish_barriers();
  }
  __syncthreads();

  const auto [column, row, last_section] = schedule.at(static_cast<int>(blockIdx.x));
  const int batch = column / a.heads, head = column % a.heads, group = head / a.heads_per_group;
  // Late queries see most keys: long work first, and short work fills the gaps at the end.
  const int first = (schedule.rows - 1 - row) * kQueries;
  // Blocks of keys that queries [begin, end) see.
  const auto first_block_of = [&](int begin) {
    return visible_keys(a, a.query_offset + begin).begin / kKeys;
  };
  const auto end_block_of = [&](int end) {
    return (visible_keys(a, a.query_offset + min(end, a.queries) - 1).end + kKeys - 1) / kKeys;
  };
  const int end_block = end_block_of(first + kQueries);
  // Use i of the rings is block end_block - 1 - i.
  const int count = max(0, end_block - first_block_of(first));
  const int warp = same_in_warp(static_cast<int>(threadIdx.x) / 32);
  const int lane = static_cast<int>(threadIdx.x) % 32;

  if (warp >= kReaders) {
    give_registers<24>();
    if (warp > kReaders || lane != 0 || count == 0) return;
    q_full.arrive_and_announce(Shape::QTile::kBytes);
    for (int part = 0; part < kQueries / 64; ++part) {
      for (int dim = 0; dim < kQkDim; dim += 64) {
        copy_box(q_tile.address + dim / 64 * Shape::QTile::kPanelBytes + part * 64 * 128, maps.q,
                 dim, head, first + part * 64, batch, q_full);
      }
    }
    const auto fetch = [&](const auto& ring, const CUtensorMap& map, int use) {
      const auto tile = ring.tile(use);
      ring.wait_empty(use);
      ring.full(use).arrive_and_announce(tile.kBytes);
      for (int dim = 0; dim < tile.kDim; dim += 64) {
        copy_box(tile.address + dim / 64 * tile.kPanelBytes, map, dim, group,
                 (end_block - 1 - use) * kKeys, batch, ring.full(use));
      }
    };
    for (int use = 0; use < count; ++use) {
      fetch(k_ring, maps.k, use);
      fetch(v_ring, maps.v, use);
    }
    return;
  }

  take_registers<Shape::kRegisters>();

  const int group_row = warp / 4 * 64;  // of this warp group, in the tile
  const int group_first = first + group_row;
  const int position = a.query_offset + group_first;
  const int last_position = a.query_offset + min(group_first + 64, a.queries) - 1;
  const bool has_rows = group_first < a.queries;
  // The uses of the rings that this warp group computes; the others it lets pass.
  const int begin = has_rows ? min(count, end_block - end_block_of(group_first + 64)) : count;
  const int end = has_rows ? min(count, end_block - first_block_of(group_first)) : count;
  const Place<1, 1> place(static_cast<int>(threadIdx.x), warp, 0);
  const ScoreOptions options(a, head);
  Softmax<1> softmax;
  Sum score[1][kKeys / 8], out[1][kVDim / 8];
  Fragment weights[kKeys / 16];

  const auto release = [&](const auto& ring, int use) { ring.release(use); };
  const auto pass = [&](int use) {
    k_ring.wait_full(use);
    release(k_ring, use);
    v_ring.wait_full(use);
    release(v_ring, use);
  };
  const auto begin_scores = [&](int use) {
    k_ring.wait_full(use);
    begin_products();
#pragma unroll
    for (int depth = 0; depth < kQkDim / 16; ++depth) {
      begin_product<false, false>(q_tile.by_rows(group_row, depth),
                                  k_ring.tile(use).by_rows(0, depth), score[0], depth > 0);
    }
    end_products();
  };
  const auto begin_out = [&](int use) {
    v_ring.wait_full(use);
    begin_products();
#pragma unroll
    for (int depth = 0; depth < kKeys / 16; ++depth) {
      begin_product(weights[depth], v_ring.tile(use).by_dimensions(0, depth), out[0]);
    }
    end_products();
  };
  const auto mask = [&](int use) {
    const int key = (end_block - 1 - use) * kKeys;
    const bool masked = !all_visible(a, position, last_position, key, key + kKeys);
    finish_scores<false>(a, options, masked, batch, first, key, place, score);
  };
  const auto keep_weights = [&] {
#pragma unroll
    for (int depth = 0; depth < kKeys / 16; ++depth) {
      weights[depth] = fragment_of(score[0], depth);
    }
  };

  float factor[1][2];
  const auto weigh = [&](int use) {
    mask(use);
    const bool rises = softmax.raise(options.to_log2, score, factor);
    softmax.weigh(options.to_log2, score);
    return rises;
  };

  for (int use = 0; use < begin; ++use) pass(use);
  if (count > 0) q_full.wait(0);  // without keys too: out is written over q
  if constexpr (Shape::kOverlaps) {
    if (begin < end) {
      begin_scores(begin);
      wait_for_products<0>(score[0]);
      release(k_ring, begin);
      weigh(begin);
      keep_weights();
    }
    for (int use = begin + 1; use < end; ++use) {
      begin_scores(use);
      begin_out(use - 1);
      wait_for_products<1>(score[0]);
      release(k_ring, use);
      const bool rises = weigh(use);
      wait_for_products<0>(out[0]);
      release(v_ring, use - 1);
      if (rises) multiply_rows(factor, out);
      keep_weights();
    }
    if (begin < end) {
      begin_out(end - 1);
      wait_for_products<0>(out[0]);
      release(v_ring, end - 1);
    }
  } else {
    for (int use = begin; use < end; ++use) {
      begin_scores(use);
      wait_for_products<0>(score[0]);
      release(k_ring, use);
      if (weigh(use)) multiply_rows(factor, out);
      keep_weights();
      begin_out(use);
      wait_for_products<0>(out[0]);
      release(v_ring, use);
    }
  }
  for (int use = end; use < count; ++use) pass(use);

  softmax.finish(options.to_log2, out, [&](int m, int half, float lse) {
    const int query = first + place.row(m) + 8 * half;
    if (lane % 4 == 0 && query < a.queries) {
      a.lse[static_cast<std::int64_t>(column) * a.queries + query] = lse;
    }
  });
  // The rows of q that this warp group alone has read take its rows of out.
  q_tile.store(place.row(0), lane, out[0], 1.0f);
  publish_shared();
  synchronize(1 + warp / 4, 128);
  if (threadIdx.x % 128 != 0) return;
  for (int dim = 0; dim < kVDim; dim += 64) {
    store_box(q_tile.address + dim / 64 * Shape::QTile::kPanelBytes + group_row * 128, maps.out,
              dim, head, group_first, batch);
  }
  wait_for_stores();
#endif
}

}  // namespace polyhead::ops::attention_bf16
