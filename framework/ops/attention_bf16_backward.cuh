// Backward pass in bf16 from the recomputed scores, in one sweep over the visible pairs:
//
//   P = exp(s - lse);  dV += P^T dO;  dS = P (dO V^T - delta);  dK += scale dS^T Q;  dQ += scale dS
//   K
//
// A block owns kKeys keys of one head; dk and dv stay in its registers while it walks over the
// queries, each a sum in fixed order without atomics. Where several heads share keys, they are
// written as f32 parts, added afterwards in the order of the heads (attention_bf16_gradients.cuh):
// blocks that walked over all heads of a group would do without, but are fewer and longer, and all
// heads' queries together exceed the L2 cache (measured on an H100, 8 groups of 4 heads, T 4096:
// 205 TFLOP/s to 253).
//
// dq is summed in f32 in device memory, by reductions in the L2 cache, over the blocks of keys,
// which take turns: for each block of queries a counter says whose turn it is.
// Blocks start in the order of their turns (a ticket gives each its work, so that none waits for
// one that has not started). With causal masks, of which late keys have the fewest queries:
//   - late keys before early ones, each walking from its diagonal on: the block before it in turn
//     is always a step ahead, and none waits. But the longest work comes last, so
//   - the last section goes from early keys to late ones, walking back from the last query.
// A turn costs one fence, taken when the reductions of the step before are long done; in all 2 to
// 6 % of the time against sums in order of arrival, whose bits change from run to run.
//
// Private to framework/ops.
#pragma once

#include "framework/ops/attention_bf16_rotation.cuh"
#include "framework/ops/attention_bf16_tiles.cuh"

namespace polyhead::ops::attention_bf16 {

// Warps stand in two rows; their products are cut into blocks of 16 x 16 that they take in turns.
template <int kQkDim, int kVDim>
struct BackwardShape {
  static constexpr int kQueries = kRowBlock;
  static constexpr int kKeys = backward_keys({kQkDim, kVDim});
  static constexpr int kWarps = kQkDim >= 128 ? 8 : 4, kThreads = 32 * kWarps;
  static constexpr int kWarpColumns = kWarps / 2;
  static constexpr int kBlocks = kQkDim >= 128 ? 1 : kQkDim > 64 ? 2 : 3;  // on a multiprocessor

  using KTile = Tile<kKeys, kQkDim>;
  using VTile = Tile<kKeys, kVDim>;
  using QTile = Tile<kQueries, kQkDim>;
  using DoutTile = Tile<kQueries, kVDim>;
  using WeightTile = Tile<kQueries, kKeys>;  // P and dS
  static constexpr int kStageBytes = QTile::kBytes + DoutTile::kBytes;
  static constexpr int shared_bytes(int stages) {
    return KTile::kBytes + VTile::kBytes + 2 * WeightTile::kBytes + stages * kStageBytes;
  }
  // Floats of a block's sums; element i of the j-th Sum of thread t lies at 4 (j threads + t) + i.
  static constexpr int kDqSums = kQueries * kQkDim;
  static constexpr int kDkSums = kKeys * kQkDim, kDvSums = kKeys * kVDim;
};

// Device memory of one backward pass.
struct BackwardSums {
  float* dq;       // (B, H, blocks of queries, kDqSums)
  float *dk, *dv;  // (heads of a group, B, G, blocks of keys, kDkSums or kDvSums), or null: one
  int* ticket;     // the next block's number
  int* turns;      // (B, H, blocks of queries): blocks of keys added
};

// Scores become P, and dP becomes dS.
template <bool kGeneral, class Place, int kN>
__device__ __forceinline__ void differentiate_softmax(const Arguments& a,
                                                      const ScoreOptions& options, bool masked,
                                                      int batch, int first_query, int first_key,
                                                      const Place& place, const float (&lse)[2][2],
                                                      const float (&delta)[2][2],
                                                      Sum (&score)[2][kN], Sum (&dp)[2][kN]) {
  if (!kGeneral && masked) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const KeyRange range =
            visible_keys(a, a.query_offset + first_query + place.row(m) + 8 * half);
#pragma unroll
        for (int n = 0; n < kN; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            const int key = first_key + place.column(n) + i;
            if (key < range.begin || key >= range.end) {
              score[m][n].element[2 * half + i] = -kInfinity;
            }
          }
        }
      }
    }
  }
#pragma unroll
  for (int m = 0; m < 2; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = first_query + place.row(m) + 8 * half;
      const int position = a.query_offset + query;
      KeyRange range{};
      if (kGeneral) {
        range = visible_keys(a, position);
        range.begin = max(range.begin, document_of(a, batch, query));
      }
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          float& s = score[m][n].element[2 * half + i];
          float& ds = dp[m][n].element[2 * half + i];
          ds -= delta[m][half];
          if (kGeneral) {
            const int key = first_key + place.column(n) + i;
            float derivative;
            s = power_of_two(options.score(s, position - key, derivative) - lse[m][half]);
            if (key < range.begin || key >= range.end) s = 0;
            ds *= derivative;
          } else {
            s = power_of_two(fmaf(s, options.to_log2, -lse[m][half]));
          }
          ds *= s;
        }
      }
    }
  }
}

template <int kQkDim, int kVDim, bool kGeneral>
__global__ void __launch_bounds__(BackwardShape<kQkDim, kVDim>::kThreads,
                                  BackwardShape<kQkDim, kVDim>::kBlocks)
    backward_kernel(const __grid_constant__ Arguments a, const __grid_constant__ Schedule schedule,
                    const __grid_constant__ BackwardSums sums, const int stages) {
  cuda::wait_for_work_before();
  using Shape = BackwardShape<kQkDim, kVDim>;
  using KTile = typename Shape::KTile;
  using VTile = typename Shape::VTile;
  using QTile = typename Shape::QTile;
  using DoutTile = typename Shape::DoutTile;
  using WeightTile = typename Shape::WeightTile;
  constexpr int kQueries = Shape::kQueries, kKeys = Shape::kKeys, kThreads = Shape::kThreads;
  constexpr int kWarpColumns = Shape::kWarpColumns;
  extern __shared__ __align__(1024) unsigned char memory[];
  const KTile k_tile{shared_address(memory)};
  const VTile v_tile{k_tile.address + KTile::kBytes};
  const WeightTile p_tile{v_tile.address + VTile::kBytes};
  const WeightTile ds_tile{p_tile.address + WeightTile::kBytes};
  const std::uint32_t stage_memory = ds_tile.address + WeightTile::kBytes;

  const int thread = static_cast<int>(threadIdx.x);
  int* const ticket = reinterpret_cast<int*>(memory);
  if (thread == 0) *ticket = atomicAdd(sums.ticket, 1);
  __syncthreads();
  const auto [column, row, ascending] = schedule.at(same_in_warp(*ticket));
  const int block = ascending ? row : schedule.rows - 1 - row;
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
  const std::int64_t first_row = static_cast<std::int64_t>(batch) * a.queries;
  const std::int64_t first_key_row = static_cast<std::int64_t>(batch) * a.keys + first_key;
  const auto load_queries = [&](int query_block, int stage) {
    const int query = query_block * kQueries;
    const QTile q_tile{stage_memory + stage * Shape::kStageBytes};
    const DoutTile dout_tile{q_tile.address + QTile::kBytes};
    load_tile<kThreads, kGeneral>(q_tile, a.q.at(first_row + query, head), a.q, a.queries - query,
                                  a.aligned);
    load_tile<kThreads, kGeneral>(dout_tile, a.dout.at(first_row + query, head), a.dout,
                                  a.queries - query, a.aligned);
  };

  const int warp = same_in_warp(thread / 32), warp_row = warp % 2, warp_column = warp / 2;
  using WarpPlace = Place<2, kWarpColumns>;
  Sum dk[kKeys / 32][kQkDim / 8 / kWarpColumns], dv[kKeys / 32][kVDim / 8 / kWarpColumns];

  const std::int64_t first_dq_block = static_cast<std::int64_t>(column) * query_blocks;
  int* const turns = sums.turns + first_dq_block;
  // How many blocks of keys that a query of the block sees have their turns before this one.
  const auto turn_at = [&](int query_block) {
    const int query = query_block * kQueries;
    if (ascending) return block - visible_keys(a, a.query_offset + query).begin / kKeys;
    const int last = min(query + kQueries, a.queries) - 1;
    return (visible_keys(a, a.query_offset + last).end - 1) / kKeys - block;
  };
  // Behind a fence behind the barrier that follows the step's reductions.
  const auto pass_turn_on = [&](int query_block) {
    store_flag(turns + query_block, turn_at(query_block) + 1);
  };
  const ScoreOptions options(a, head);
  int stage = 0;
  if (count > 0) {
    load_tile<kThreads, kGeneral>(k_tile, a.k.at(first_key_row, group), a.k, a.keys - first_key,
                                  a.aligned);
    load_tile<kThreads, kGeneral>(v_tile, a.v.at(first_key_row, group), a.v, a.keys - first_key,
                                  a.aligned);
    load_queries(begin, stage);
  }
  for (int step = 0; step < count; ++step) {
    const int query_block = begin + step * direction;
    wait_for_copies();
    __syncthreads();  // all see this block, and are done with the one before
    const bool has_next = step < count - 1;
    if (stages == 2 && has_next) load_queries(query_block + direction, stage ^ 1);
    const QTile q_tile{stage_memory + stage * Shape::kStageBytes};
    const DoutTile dout_tile{q_tile.address + QTile::kBytes};

    const int query = query_block * kQueries;
    const int position = a.query_offset + query;
    const int turn = turn_at(query_block);
    int seen_turn = 0;
    if (thread == 0) seen_turn = load_flag(turns + query_block);

    const int this_thread = read_thread();
    const WarpPlace place(this_thread, this_thread / 32 % 2, this_thread / 64);
    const std::int64_t first_padded_row =
        static_cast<std::int64_t>(column) * a.padded_queries + query;
    float lse[2][2], delta[2][2];
#pragma unroll
    for (int m = 0; m < 2; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const std::int64_t row = first_padded_row + place.row(m) + 8 * half;
        lse[m][half] = __ldg(a.row_lse + row);
        delta[m][half] = __ldg(a.row_delta + row);
      }
    }

    Sum score[2][kKeys / 8 / kWarpColumns], dp[2][kKeys / 8 / kWarpColumns];
    multiply<kQkDim / 16>(Operand<QTile, Side::kA, false, 2>(q_tile, warp_row),
                          Operand<KTile, Side::kB, false, kWarpColumns>(k_tile, warp_column),
                          score);
    multiply<kVDim / 16>(Operand<DoutTile, Side::kA, false, 2>(dout_tile, warp_row),
                         Operand<VTile, Side::kB, false, kWarpColumns>(v_tile, warp_column), dp);
    const int last_position = a.query_offset + min(query + kQueries, a.queries) - 1;
    const bool masked = !all_visible(a, position, last_position, first_key, first_key + kKeys);
    differentiate_softmax<kGeneral>(a, options, masked, batch, query, first_key, place, lse, delta,
                                    score, dp);
    store_sums(score, 1.0f, place, p_tile);
    store_sums(dp, 1.0f, place, ds_tile);
    if (thread == 0) {
      fence_device();  // behind the reductions of the step before, and behind seen_turn
      if (step > 0) pass_turn_on(query_block - direction);
      if (seen_turn != turn) {
        do {
          __nanosleep(50);
        } while (load_flag(turns + query_block) != turn);
        fence_device();
      }
    }
    __syncthreads();  // all see P and dS, and that it is this block's turn

    multiply<kQueries / 16>(Operand<WeightTile, Side::kA, true, 2>(p_tile, warp_row),
                            Operand<DoutTile, Side::kB, true, kWarpColumns>(dout_tile, warp_column),
                            dv);
    multiply<kQueries / 16>(Operand<WeightTile, Side::kA, true, 2>(ds_tile, warp_row),
                            Operand<QTile, Side::kB, true, kWarpColumns>(q_tile, warp_column), dk);
    Sum dq[2][kQkDim / 8 / kWarpColumns];
    multiply<kKeys / 16>(Operand<WeightTile, Side::kA, false, 2>(ds_tile, warp_row),
                         Operand<KTile, Side::kB, true, kWarpColumns>(k_tile, warp_column), dq);
    float* const dq_sums = sums.dq + (first_dq_block + query_block) * Shape::kDqSums + 4 * thread;
    if (turn == 0) {
      write_sums<kThreads>(dq, dq_sums);
    } else {
      add_sums<kThreads>(dq, dq_sums);
    }

    if (stages == 2) {
      stage ^= 1;
    } else if (has_next) {
      __syncthreads();
      load_queries(query_block + direction, stage);
    }
  }
  __syncthreads();  // all reductions are on their way, and K and V have been read
  if (count > 0 && thread == 0) {
    fence_device();
    pass_turn_on(begin + (count - 1) * direction);
  }

  if (sums.dk != nullptr) {
    const int groups = a.heads / a.heads_per_group;
    const std::int64_t part =
        ((static_cast<std::int64_t>(head % a.heads_per_group) * a.batch + batch) * groups + group) *
            schedule.rows +
        block;
    write_sums<kThreads>(dk, sums.dk + part * Shape::kDkSums + 4 * thread);
    write_sums<kThreads>(dv, sums.dv + part * Shape::kDvSums + 4 * thread);
    return;
  }
  const WarpPlace place(thread, warp_row, warp_column);
  store_sums(dk, a.scale, place, k_tile);
  store_sums(dv, 1.0f, place, v_tile);
  __syncthreads();
  if (a.angles.half > 0) {
    rotate_back<kThreads, kKeys>(k_tile, a.angles, thread, 0, first_key, a.keys - first_key);
    __syncthreads();
  }
  store_tile<kThreads, kKeys, kGeneral>(k_tile, thread, 0, a.dk.at(first_key_row, group), a.dk,
                                        a.keys - first_key, a.aligned);
  store_tile<kThreads, kKeys, kGeneral>(v_tile, thread, 0, a.dv.at(first_key_row, group), a.dv,
                                        a.keys - first_key, a.aligned);
}

}  // namespace polyhead::ops::attention_bf16
