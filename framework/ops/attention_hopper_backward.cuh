// Backward pass in bf16 on Hopper, the sweep of attention_bf16_backward.cuh with its sums, their
// order and its schedule. Scores are computed transposed, S^T = K Q^T and dP^T = V dO^T: then P^T
// and dS^T lie in registers as dV += P^T dO and dK += dS^T Q want them, and only dS passes through
// shared memory, for dQ += dS K. Two warp groups, the readers, have 64 keys each; the third fetches
// for them and keeps the turns (attention_hopper_backward_fetch.cuh). Private to framework/ops.
#pragma once

#include <type_traits>

#include "framework/ops/attention_hopper_backward_fetch.cuh"

namespace polyhead::ops::attention_bf16 {

template <int kQkDim, int kVDim>
__global__ void __launch_bounds__(HopperBackwardShape<kQkDim, kVDim>::kThreads, 1)
    hopper_backward_kernel(const __grid_constant__ Arguments a,
                           const __grid_constant__ Schedule schedule,
                           const __grid_constant__ BackwardSums sums,
                           const __grid_constant__ BackwardMaps maps) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  cuda::wait_for_work_before();
  using Shape = HopperBackwardShape<kQkDim, kVDim>;
  using Item = typename Shape::Item;
  using ScoreTile = typename Shape::ScoreTile;
  constexpr int kQueries = Shape::kQueries, kPart = Shape::kPart, kKeys = Shape::kKeys;
  constexpr int kReaders = Shape::kReaders, kReaderThreads = 32 * kReaders;
  constexpr bool kHasWhole = Shape::kWholeDims > 0, kHasShared = Shape::kSharedDims > 0;
  extern __shared__ __align__(1024) unsigned char dynamic_memory[];
  const BackwardMemory<Shape> memory(shared_address(dynamic_memory));
  const int thread = static_cast<int>(threadIdx.x);
  if (thread == 0) memory.initialize();
  __syncthreads();
  const int warp = same_in_warp(thread / 32), lane = thread % 32;
  if (warp >= kReaders) {
    give_registers<24>();
    if (lane != 0) return;
    if (warp == kReaders) {
      fetch_items(a, schedule, sums, maps, memory);
    } else if (warp == kReaders + 1) {
      watch_turns(a, sums, memory);
    } else if (warp == kReaders + 2) {
      pass_turns_on(a, sums, memory);
    }
    return;
  }
  take_registers<240>();

  const int group_row = warp / 4 * 64;  // of this warp group, among the keys
  const int row_in_block = 16 * warp + lane / 4;
  const float to_log2 = a.scale * kLog2E;
  // The products that read this half two steps ago are done: every warp group has waited for its
  // own before it said that dS of the step between is there.
  const auto ds_of = [&](int step) -> ScoreTile {
    return {memory.ds + step % 2 * ScoreTile::kBytes};
  };
  int first_step = 0;  // of the item
  for (int use = 0; use == 0 || Shape::kStays; ++use) {
    const ItemPlace place = next_place(memory.places, use);
    if (place.column < 0) break;
    const Item item(a, place);
    const auto k_tile = memory.keys.tile(use).k();
    const auto v_tile = memory.keys.tile(use).v();
    const auto query_block_at = [&](int step) {
      return item.begin + (step - first_step) * item.direction;
    };
    Sum dk[kQkDim / 8] = {}, dv[kVDim / 8] = {};
    using Scores = Sum[kPart / 8];
    // S^T of queries [first, first + kPart) of a step.
    const auto begin_scores = [&](int step, int first, Scores& score) {
      const auto q_tile = memory.queries.tile(step).q();
      memory.queries.wait_full(step);
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
    // When all of the step's dS is there.
    const auto begin_dq = [&](int step) {
      memory.ds_stored.wait(step);
      begin_products();
#pragma unroll
      for (int depth = 0; depth < kKeys / 16; ++depth) {
        const std::uint64_t ds = ds_of(step).by_dimensions(0, depth);
        if constexpr (kHasWhole) {
          begin_product<true, true>(ds,
                                    k_tile.by_dimensions(Shape::first_whole_dim(warp / 4), depth),
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
    // All but the last `pending` groups of products.
    const auto wait_for_dq = [&](auto pending) {
      wait_for_products<pending>();
      if constexpr (kHasWhole) pin(dq.whole);
      if constexpr (kHasShared) pin(dq.shared);
    };
    // At the item's turn.
    const auto add_dq = [&](int step) {
      memory.turn_came.wait(step);
      const int query_block = query_block_at(step);
      float* const dq_sums = sums.dq + item.dq_block(a, query_block) * Shape::kDqSums + 4 * thread;
      const bool first = item.turn_at(a, query_block) == 0;
      const auto add = [&](int index, const Sum& sum) {
        float* const to = dq_sums + index * 4 * kReaderThreads;
        first ? write_sum(to, sum) : add_sum(to, sum);
      };
#pragma unroll
      for (int n = 0; n < Shape::kWholeDims / 8; ++n) add(n, dq.whole[n]);
#pragma unroll
      for (int n = 0; n < Shape::kSharedDims / 8; ++n) add(Shape::kWholeDims / 8 + n, dq.shared[n]);
      arrive_as_warp(memory.turn_used);
    };
    using std::integral_constant;
    // From S^T to dS^T in shared memory, dV and dK. With `has_previous` dQ of the step before is
    // computed and added too, behind the exponentials: then the warp groups need not keep step.
    const auto compute_part = [&](int step, auto first, Scores& score, auto has_previous) {
      const auto tiles = memory.queries.tile(step);
      const int query = query_block_at(step) * kQueries + first;
      const int lane_column = first + lane % 4 * 2;
      // Read before the products, which leave shared memory no time for it. dP begins with -delta.
      Scores dp;
      float2 lse[kPart / 8];
#pragma unroll
      for (int n = 0; n < kPart / 8; ++n) {
        const float2 delta = load_shared_pair(tiles.delta() + 4 * (lane_column + 8 * n));
        lse[n] = load_shared_pair(tiles.lse() + 4 * (lane_column + 8 * n));
#pragma unroll
        for (int i = 0; i < 4; ++i) dp[n].element[i] = i % 2 == 0 ? -delta.x : -delta.y;
      }
      begin_products();
#pragma unroll
      for (int depth = 0; depth < kVDim / 16; ++depth) {
        begin_product<false, false>(v_tile.by_rows(group_row, depth),
                                    tiles.dout().by_rows(first, depth), dp, true);
      }
      end_products();

      const int position = a.query_offset + query;
      const int last_position = a.query_offset + min(query + kPart, a.queries) - 1;
      const int group_key = item.first_key + group_row;
      const bool masked = !all_visible(a, position, last_position, group_key, group_key + 64);
      if constexpr (has_previous) {
        wait_for_products<1>(score, dv, dk);
        memory.queries.empty(step - 1).arrive();
      } else {
        wait_for_products<1>(score);
      }
#pragma unroll
      for (int n = 0; n < kPart / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          float& s = score[n].element[i];
          s = power_of_two(fmaf(s, to_log2, i % 2 == 0 ? -lse[n].x : -lse[n].y));
        }
      }
      if (masked) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          const QueryRange range = queries_that_see(a, item.first_key + row_in_block + 8 * half);
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
      if constexpr (has_previous) begin_dq(step - 1);
      begin_products();
#pragma unroll
      for (int depth = 0; depth < kPart / 16; ++depth) {
        begin_product(weights[depth], tiles.dout().by_dimensions(0, first / 16 + depth), dv);
      }
      end_products();

      wait_for_products<has_previous ? 2 : 1>(dp);
#pragma unroll
      for (int n = 0; n < kPart / 8; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) dp[n].element[i] *= score[n].element[i];
      }
      ds_of(step).template store<first / 8>(row_in_block, lane, dp, 1.0f);
      if constexpr (has_previous) wait_for_dq(integral_constant<int, 1>{});
      publish_shared();
      if constexpr (first + kPart == kQueries) arrive_as_warp(memory.ds_stored);
#pragma unroll
      for (int depth = 0; depth < kPart / 16; ++depth) gradients[depth] = fragment_of(dp, depth);
      begin_products();
#pragma unroll
      for (int depth = 0; depth < kPart / 16; ++depth) {
        begin_product(gradients[depth], tiles.q().by_dimensions(0, first / 16 + depth), dk);
      }
      end_products();
      if constexpr (has_previous) add_dq(step - 1);
    };
    Scores ahead;
    const auto compute = [&](int step, auto has_previous) {
      const int position = a.query_offset + query_block_at(step) * kQueries;
      const int group_key = item.first_key + group_row;
      const bool sees_keys = visible_keys(a, position).begin < group_key + 64 &&
                             visible_keys(a, position + kQueries - 1).end > group_key;
      // Where the queries see keys of the other warp group alone. (With more sums in registers the
      // compiler has too few for this branch.)
      if (Shape::kAddsLate && !sees_keys) {
        wait_for_products<0>(ahead, dv, dk);
        if constexpr (has_previous) {
          memory.queries.empty(step - 1).arrive();
          begin_dq(step - 1);
          wait_for_dq(integral_constant<int, 0>{});
        }
        const Sum zeros[kQueries / 8];
        ds_of(step).store(row_in_block, lane, zeros, 1.0f);
        publish_shared();
        arrive_as_warp(memory.ds_stored);
        if constexpr (has_previous) add_dq(step - 1);
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

    // In registers, where they have room for the angles.
    const bool turns_all = Shape::kScoresAhead && 2 * a.angles.half == kQkDim && sums.dk == nullptr;
    SumAngles<kQkDim / 8> angles;
    const auto load_angles = [&] {
      if (turns_all) angles.load(a.angles, item.first_key + row_in_block, lane, a.keys);
    };
    pin(dk);
    pin(dv);
    memory.keys.wait_full(use);
    const int end_step = first_step + item.count;
    if (item.count > 0) {
      if constexpr (Shape::kScoresAhead) {
        pin(ahead);
        begin_scores(first_step, 0, ahead);
      }
      using std::false_type, std::true_type;
      // ptxas (CUDA 13.0) lets no products overlap where sums are read in another round of the loop
      // than they were begun in. So a round ends before S^T of the next step begins,
      if constexpr (Shape::kAddsLate) {
        compute(first_step, false_type{});
        for (int step = first_step + 1; step < end_step; ++step) {
          begin_scores(step, 0, ahead);
          compute(step, true_type{});
        }
        begin_dq(end_step - 1);
        load_angles();
        wait_for_dq(integral_constant<int, 0>{});
        pin(dv);
        pin(dk);
        memory.queries.empty(end_step - 1).arrive();
        add_dq(end_step - 1);
      } else {  // ... or when it is there.
        if constexpr (Shape::kScoresAhead) wait_for_products<0>(ahead);
        const auto complete = [&](int step, auto has_next) {
          compute(step, false_type{});
          begin_dq(step);
          wait_for_products<1>(dv, dk);
          memory.queries.empty(step).arrive();
          constexpr bool kAhead = Shape::kScoresAhead && has_next;
          if constexpr (kAhead) begin_scores(step + 1, 0, ahead);
          wait_for_dq(integral_constant < int, kAhead ? 1 : 0 > {});
          add_dq(step);
          if constexpr (kAhead) wait_for_products<0>(ahead);
        };
        for (int step = first_step; step < end_step - 1; ++step) complete(step, true_type{});
        complete(end_step - 1, false_type{});
      }
    }
    first_step = end_step;

    // Again, rather than kept in registers.
    const Item done(a, {read_again(place.column), read_again(place.block), place.ascending});
    const auto release_keys = [&] {
      if (thread % 128 == 0) memory.keys.empty(use).arrive();
    };
    if (sums.dk != nullptr) {
      const int groups = a.heads / a.heads_per_group;
      const std::int64_t part =
          ((static_cast<std::int64_t>(done.head % a.heads_per_group) * a.batch + done.batch) *
               groups +
           done.group) *
              schedule.rows +
          done.block;
      const auto write = [&]<int kN>(const Sum(&c)[kN], float* all_sums) {
        float* const to = all_sums + part * (kKeys * 8 * kN) + 4 * thread;
#pragma unroll
        for (int n = 0; n < kN; ++n) write_sum(to + n * 4 * kReaderThreads, c[n]);
      };
      write(dk, sums.dk);
      write(dv, sums.dv);
      synchronize(2 + warp / 4, 128);
      release_keys();
      continue;
    }
    if (turns_all) {
      if (!Shape::kAddsLate || item.count == 0) load_angles();
      angles.turn_back(a.scale, dk);
    }
    synchronize(1, kReaderThreads);  // all have read K
    k_tile.store(row_in_block, lane, dk, turns_all ? 1.0f : a.scale);
    v_tile.store(row_in_block, lane, dv, 1.0f);
    if (a.angles.half > 0 && !turns_all) {
      synchronize(2 + warp / 4, 128);
      rotate_back<128, 64>(k_tile, a.angles, thread % 128, group_row, done.first_key,
                           a.keys - done.first_key);
    }
    publish_shared();
    synchronize(2 + warp / 4, 128);
    if (thread % 128 != 0) continue;
    const auto store_keys = [&](const auto& tile, const CUtensorMap& map) {
      for (int dim = 0; dim < tile.kDim; dim += 64) {
        store_box(tile.address + dim / 64 * tile.kPanelBytes + group_row * 128, map, dim,
                  done.group, done.first_key + group_row, done.batch);
      }
    };
    store_keys(k_tile, maps.dk);
    store_keys(v_tile, maps.dv);
    wait_for_stores();
    release_keys();
  }
#endif
}

}  // namespace polyhead::ops::attention_bf16
