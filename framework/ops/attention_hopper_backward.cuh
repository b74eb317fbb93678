// Backward pass in bf16 on Hopper, the sweep of attention_bf16_backward.cuh with its sums, their
// order and its schedule. Scores are computed transposed, S^T = K Q^T and dP^T = V dO^T: then P^T
// and dS^T lie in registers as dV += P^T dO and dK += dS^T Q want them, and only dS passes through
// shared memory, for dQ += dS K. Two warp groups have 64 keys each; of the third, one warp fetches
// queries, one waits for this block's turns and one passes them on. Private to framework/ops.
#pragma once

#include <type_traits>

#include "framework/ops/attention_hopper_backward_shapes.cuh"

namespace polyhead::ops::attention_bf16 {

// Boxes of q and dout have kQueries rows, those of k, v, dk and dv 64.
struct BackwardMaps {
  CUtensorMap q, k, v, dout, dk, dv;
};

template <int kQkDim, int kVDim>
__global__ void __launch_bounds__(HopperBackwardShape<kQkDim, kVDim>::kThreads, 1)
    hopper_backward_kernel(const __grid_constant__ Arguments a,
                           const __grid_constant__ Schedule schedule,
                           const __grid_constant__ BackwardSums sums,
                           const __grid_constant__ BackwardMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  cuda::wait_for_work_before();
  using Shape = HopperBackwardShape<kQkDim, kVDim>;
  using KTile = typename Shape::KTile;
  using VTile = typename Shape::VTile;
  using ScoreTile = typename Shape::ScoreTile;
  using QueryRing = typename Shape::QueryRing;
  constexpr int kQueries = Shape::kQueries, kPart = Shape::kPart, kKeys = Shape::kKeys;
  constexpr int kReaders = 4 * Shape::kGroups, kReaderThreads = 32 * kReaders;
  constexpr bool kHasWhole = Shape::kWholeDims > 0, kHasShared = Shape::kSharedDims > 0;
  extern __shared__ __align__(1024) unsigned char memory[];
  const KTile k_tile{shared_address(memory)};
  const VTile v_tile{k_tile.address + KTile::kBytes};
  const std::uint32_t ds_memory = v_tile.address + VTile::kBytes;
  const std::uint32_t barriers = k_tile.address + Shape::kTileBytes;
  const QueryRing queries{ds_memory + 2 * ScoreTile::kBytes, barriers};
  const Barrier keys_full{barriers + QueryRing::kBarrierBytes};
  const Barrier turn_came{keys_full.address + 8};
  const Barrier turn_used{keys_full.address + 16};

  const int thread = static_cast<int>(threadIdx.x);
  int* const ticket = reinterpret_cast<int*>(memory);
  if (thread == 0) {
    queries.initialize(kReaderThreads);
    keys_full.initialize(1);
    turn_came.initialize(2);
    turn_used.initialize(kReaderThreads);
    publish_barriers();
    *ticket = atomicAdd(sums.ticket, 1);
  }
  __syncthreads();
  const auto [column, row, ascending] = schedule.at(same_in_warp(*ticket));
  const int block = ascending ? row : schedule.rows - 1 - row;
  publish_shared();
  __syncthreads();  // the word becomes part of a tile

  const int batch = column / a.heads, head = column % a.heads, group = head / a.heads_per_group;
  const int first_key = block * kKeys;
  // Queries that see one of the keys, in blocks.
  const int first_query = max(0, first_key - a.reach_ahead + 1 - a.query_offset);
  const int last_query = min(a.queries, first_key + kKeys - 1 + a.reach_back - a.query_offset) - 1;
  const int query_blocks = a.padded_queries / kQueries;
  const int first_block = first_query / kQueries, last_block = last_query / kQueries;
  const int begin = ascending ? last_block : first_block, direction = ascending ? -1 : 1;
  const int count = first_query <= last_query ? last_block - first_block + 1 : 0;
  const std::int64_t first_dq_block = static_cast<std::int64_t>(column) * query_blocks;
  // How many blocks of keys that a query of the block sees have their turns before this one.
  const auto turn_at = [&](int query_block) {
    const int query = query_block * kQueries;
    if (ascending) return block - visible_keys(a, a.query_offset + query).begin / kKeys;
    const int last = min(query + kQueries, a.queries) - 1;
    return (visible_keys(a, a.query_offset + last).end - 1) / kKeys - block;
  };
  const int warp = same_in_warp(thread / 32), lane = thread % 32;
  const bool turns_back = a.angles.half > 0 && sums.dk == nullptr;
  // The keys' cosines and sines follow the last queries through their ring, where a stage has room.
  const bool fetches_angles =
      turns_back && count > 0 && 4 * kKeys * a.angles.half <= Shape::QueryTiles::kUsedBytes;

  if (warp >= kReaders) {
    give_registers<24>();
    if (lane != 0 || count == 0) return;
    if (warp == kReaders) {
      keys_full.arrive_and_announce(KTile::kBytes + VTile::kBytes);
      const auto fetch_keys = [&](const auto& tile, const CUtensorMap& map) {
        for (int dim = 0; dim < tile.kDim; dim += 64) {
          for (int part = 0; part < kKeys; part += 64) {
            copy_box(tile.address + dim / 64 * tile.kPanelBytes + part * 128, map, dim, group,
                     first_key + part, batch, keys_full);
          }
        }
      };
      fetch_keys(k_tile, maps.k);
      fetch_keys(v_tile, maps.v);
      const auto fetch_queries = [&](const auto& tile, const CUtensorMap& map, int query,
                                     Barrier full) {
        for (int dim = 0; dim < tile.kDim; dim += 64) {
          copy_box(tile.address + dim / 64 * tile.kPanelBytes, map, dim, head, query, batch, full);
        }
      };
      for (int step = 0; step < count; ++step) {
        const int query = (begin + step * direction) * kQueries;
        const std::int64_t padded_row =
            static_cast<std::int64_t>(column) * a.padded_queries + query;
        queries.wait_empty(step);
        const auto tiles = queries.tile(step);
        const Barrier full = queries.full(step);
        full.arrive_and_announce(decltype(tiles)::kUsedBytes);
        fetch_queries(tiles.q(), maps.q, query, full);
        fetch_queries(tiles.dout(), maps.dout, query, full);
        copy_bytes(tiles.lse(), a.row_lse + padded_row, tiles.kStatisticsBytes, full);
        copy_bytes(tiles.delta(), a.row_delta + padded_row, tiles.kStatisticsBytes, full);
      }
      if (fetches_angles) {
        const std::int64_t first_angle = std::int64_t{first_key} * a.angles.half;
        const int bytes = min(kKeys, a.keys - first_key) * a.angles.half * 4;
        const auto fetch_angles = [&](int use, const float* angles) {
          queries.wait_empty(use);
          queries.full(use).arrive_and_announce(bytes);
          copy_bytes(queries.tile(use).address, angles + first_angle, bytes, queries.full(use));
        };
        fetch_angles(count, a.angles.cos);
        fetch_angles(count + 1, a.angles.sin);
      }
    } else if (warp == kReaders + 1) {
      // A turn begins for the readers when this warp has seen it come, for which it looks while the
      // one before is used, and the next warp has seen the one before used. So no barrier is a
      // phase ahead of those that wait for it.
      for (int step = 0; step < count; ++step) {
        const int query_block = begin + step * direction;
        const int* const turns = sums.turns + first_dq_block + query_block;
        while (load_flag(turns) != turn_at(query_block)) __nanosleep(20);
        fence_device();
        if (step > 0) turn_came.wait(step - 1);
        turn_came.arrive();
      }
    } else if (warp == kReaders + 2) {
      turn_came.arrive();
      for (int step = 0; step < count; ++step) {
        turn_used.wait(step);
        turn_came.arrive();
        fence_device();
        const int query_block = begin + step * direction;
        store_flag(sums.turns + first_dq_block + query_block, turn_at(query_block) + 1);
      }
    }
    return;
  }
  take_registers<240>();

  const int group_row = warp / 4 * 64;  // of this warp group, among the keys
  const int row_in_block = 16 * warp + lane / 4;
  const ScoreOptions options(a, head);
  Sum dk[kQkDim / 8], dv[kVDim / 8];
  // The products that read this half two steps ago are done: every warp group has waited for its
  // own before the barrier of the step between.
  const auto ds_of = [&](int step) -> ScoreTile {
    return {ds_memory + step % 2 * ScoreTile::kBytes};
  };
  using Scores = Sum[kPart / 8];
  // S^T of queries [first, first + kPart) of a step.
  const auto begin_scores = [&](int step, int first, Scores& score) {
    const auto q_tile = queries.tile(step).q();
    queries.wait_full(step);
    begin_products();
#pragma unroll
    for (int depth = 0; depth < kQkDim / 16; ++depth) {
      begin_product<false, false>(k_tile.by_rows(group_row, depth), q_tile.by_rows(first, depth),
                                  score, depth > 0);
    }
    end_products();
  };
  struct DqSums {
    Sum whole[8], shared[4];  // as far as there are such panels
  };
  DqSums dq;
  // Once all of the step's dS is there.
  const auto begin_dq = [&](int step) {
    begin_products();
#pragma unroll
    for (int depth = 0; depth < kKeys / 16; ++depth) {
      const std::uint64_t ds = ds_of(step).by_dimensions(0, depth);
      if constexpr (kHasWhole) {
        begin_product<true, true>(ds, k_tile.by_dimensions(Shape::first_whole_dim(warp / 4), depth),
                                  dq.whole, depth > 0);
      }
      if constexpr (kHasShared) {
        begin_product<true, true>(ds,
                                  k_tile.by_dimensions(Shape::first_shared_dim(warp / 4), depth),
                                  dq.shared, depth > 0);
      }
    }
    end_products();
  };
  // Waits for all but the last `pending` groups, and for the block's turn.
  const auto add_dq = [&](int step, auto pending) {
    wait_for_products<pending>();
    if constexpr (kHasWhole) pin(dq.whole);
    if constexpr (kHasShared) pin(dq.shared);
    turn_came.wait(step);
    const int query_block = begin + step * direction;
    float* const dq_sums = sums.dq + (first_dq_block + query_block) * Shape::kDqSums + 4 * thread;
    const bool first = turn_at(query_block) == 0;
    const auto add = [&](int index, const Sum& sum) {
      float* const to = dq_sums + index * 4 * kReaderThreads;
      first ? write_sum(to, sum) : add_sum(to, sum);
    };
#pragma unroll
    for (int n = 0; n < Shape::kWholeDims / 8; ++n) add(n, dq.whole[n]);
#pragma unroll
    for (int n = 0; n < Shape::kSharedDims / 8; ++n) add(Shape::kWholeDims / 8 + n, dq.shared[n]);
    turn_used.arrive();
  };
  using std::integral_constant;
  // From S^T to dS^T in shared memory, dV and dK. With `has_previous` dQ of the step before, which
  // has begun, is added.
  const auto compute_part = [&](int step, auto first, Scores& score, auto has_previous) {
    const auto tiles = queries.tile(step);
    const int query = (begin + step * direction) * kQueries + first;
    Scores dp;
    pin(dp);
    begin_products();
#pragma unroll
    for (int depth = 0; depth < kVDim / 16; ++depth) {
      begin_product<false, false>(v_tile.by_rows(group_row, depth),
                                  tiles.dout().by_rows(first, depth), dp, depth > 0);
    }
    end_products();

    const int position = a.query_offset + query;
    const int last_position = a.query_offset + min(query + kPart, a.queries) - 1;
    const int group_key = first_key + group_row;
    const bool masked = !all_visible(a, position, last_position, group_key, group_key + 64);
    const int lane_column = first + lane % 4 * 2;
    wait_for_products<has_previous ? 2 : 1>(score);
#pragma unroll
    for (int n = 0; n < kPart / 8; ++n) {
      const float2 lse = load_shared_pair(tiles.lse() + 4 * (lane_column + 8 * n));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& s = score[n].element[i];
        s = power_of_two(fmaf(s, options.to_log2, i % 2 == 0 ? -lse.x : -lse.y));
      }
    }
    if (masked) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const QueryRange range = queries_that_see(a, first_key + row_in_block + 8 * half);
        const auto seeing = static_cast<unsigned>(range.end - range.begin);
        // Without a sign, a query before the range lies far behind it: one comparison for two.
        const int from_begin = query - first + lane_column - range.begin;
#pragma unroll
        for (int n = 0; n < kPart / 8; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            if (static_cast<unsigned>(from_begin + 8 * n + i) >= seeing) {
              score[n].element[2 * half + i] = 0;
            }
          }
        }
      }
    }
    Fragment weights[kPart / 16], gradients[kPart / 16];
#pragma unroll
    for (int depth = 0; depth < kPart / 16; ++depth) weights[depth] = fragment_of(score, depth);
    begin_products();
#pragma unroll
    for (int depth = 0; depth < kPart / 16; ++depth) {
      begin_product(weights[depth], tiles.dout().by_dimensions(0, first / 16 + depth), dv);
    }
    end_products();
    if constexpr (has_previous) add_dq(step - 1, integral_constant<int, 2>{});

    wait_for_products<1>(dp);
#pragma unroll
    for (int n = 0; n < kPart / 8; ++n) {
      const float2 delta = load_shared_pair(tiles.delta() + 4 * (lane_column + 8 * n));
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float& ds = dp[n].element[i];
        ds = score[n].element[i] * (ds - (i % 2 == 0 ? delta.x : delta.y));
      }
    }
    ds_of(step).template store<first / 8>(row_in_block, lane, dp, 1.0f);
    publish_shared();
#pragma unroll
    for (int depth = 0; depth < kPart / 16; ++depth) gradients[depth] = fragment_of(dp, depth);
    begin_products();
#pragma unroll
    for (int depth = 0; depth < kPart / 16; ++depth) {
      begin_product(gradients[depth], tiles.q().by_dimensions(0, first / 16 + depth), dk);
    }
    end_products();
  };
  Scores ahead;
  const auto compute = [&](int step, auto has_previous) {
    const int position = a.query_offset + (begin + step * direction) * kQueries;
    const int group_key = first_key + group_row;
    const bool sees_keys = visible_keys(a, position).begin < group_key + 64 &&
                           visible_keys(a, position + kQueries - 1).end > group_key;
    // Where the queries see keys of the other warp group alone. (With more sums in registers the
    // compiler has too few for this branch.)
    if (Shape::kAddsLate && !sees_keys) {
      if constexpr (has_previous) add_dq(step - 1, integral_constant<int, 0>{});
      const Sum zeros[kQueries / 8];
      ds_of(step).store(row_in_block, lane, zeros, 1.0f);
      publish_shared();
    } else if constexpr (Shape::kScoresAhead) {
      compute_part(step, integral_constant<int, 0>{}, ahead, has_previous);
    } else {
      const auto begin_and_compute_part = [&](auto first) {
        Scores score;
        pin(score);
        begin_scores(step, first, score);
        compute_part(step, first, score, has_previous);
        wait_for_products<0>(dv, dk);
      };
      begin_and_compute_part(integral_constant<int, 0>{});
      begin_and_compute_part(integral_constant<int, kPart>{});
    }
  };
  // Each thread for what it has read itself, the statistics.
  const auto release = [&](int step) { queries.empty(step).arrive(); };

  pin(dk);
  pin(dv);
  if (count > 0) {
    keys_full.wait(0);
    if constexpr (Shape::kScoresAhead) {
      pin(ahead);
      begin_scores(0, 0, ahead);
      wait_for_products<0>(ahead);
    }
    // ptxas (CUDA 13.0) lets no products overlap where sums are read in another round of the loop
    // than they were begun in. So a round ends before S^T of the next step begins,
    if constexpr (Shape::kAddsLate) {
      compute(0, std::false_type{});
      for (int step = 1; step < count; ++step) {
        begin_scores(step, 0, ahead);
        synchronize(1, kReaderThreads);
        begin_dq(step - 1);
        wait_for_products<1>(ahead, dv, dk);
        release(step - 1);
        compute(step, std::true_type{});
      }
      synchronize(1, kReaderThreads);
      begin_dq(count - 1);
      add_dq(count - 1, integral_constant<int, 0>{});
      pin(dv);
      pin(dk);
    } else {  // ... or when it is there.
      const auto complete = [&](int step, auto has_next) {
        compute(step, std::false_type{});
        synchronize(1, kReaderThreads);
        begin_dq(step);
        wait_for_products<1>(dv, dk);
        release(step);
        constexpr bool kAhead = Shape::kScoresAhead && has_next;
        if constexpr (kAhead) begin_scores(step + 1, 0, ahead);
        add_dq(step, integral_constant < int, kAhead ? 1 : 0 > {});
        if constexpr (kAhead) wait_for_products<0>(ahead);
      };
      for (int step = 0; step < count - 1; ++step) complete(step, std::true_type{});
      complete(count - 1, std::false_type{});
    }
  }

  if (sums.dk != nullptr) {
    const int groups = a.heads / a.heads_per_group;
    const std::int64_t part =
        ((static_cast<std::int64_t>(head % a.heads_per_group) * a.batch + batch) * groups + group) *
            schedule.rows +
        block;
    const auto write = [&]<int kN>(const Sum(&c)[kN], float* all_sums) {
      float* const to = all_sums + part * (kKeys * 8 * kN) + 4 * thread;
#pragma unroll
      for (int n = 0; n < kN; ++n) write_sum(to + n * 4 * kReaderThreads, c[n]);
    };
    write(dk, sums.dk);
    write(dv, sums.dv);
    return;
  }
  synchronize(1, kReaderThreads);  // all have read K
  k_tile.store(row_in_block, lane, dk, a.scale);
  v_tile.store(row_in_block, lane, dv, 1.0f);
  if (turns_back) {
    synchronize(2 + warp / 4, 128);
    const auto angles_in = [&](int use) {
      queries.wait_full(use);
      return reinterpret_cast<const float*>(memory + (queries.tile(use).address - k_tile.address));
    };
    Angles angles = a.angles;
    if (fetches_angles) {
      angles.cos = angles_in(count);
      angles.sin = angles_in(count + 1);
    }
    rotate_back<128, 64>(k_tile, angles, thread % 128, group_row, fetches_angles ? 0 : first_key,
                         a.keys - first_key);
  }
  publish_shared();
  synchronize(2 + warp / 4, 128);
  if (thread % 128 != 0) return;
  const auto store_keys = [&](const auto& tile, const CUtensorMap& map) {
    for (int dim = 0; dim < tile.kDim; dim += 64) {
      store_box(tile.address + dim / 64 * tile.kPanelBytes + group_row * 128, map, dim, group,
                first_key + group_row, batch);
    }
  };
  store_keys(k_tile, maps.dk);
  store_keys(v_tile, maps.dv);
  wait_for_stores();
#endif
}

}  // namespace polyhead::ops::attention_bf16
