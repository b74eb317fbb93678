// Forward pass in bf16 (FlashAttention-2, Dao 2023). A block owns kQueries rows of one head, each
// of its warps some of them; keys and values pass through shared memory, the copies of one block of
// keys under the products of the one before. Private to framework/ops.
//
// What bounds it: a warp of 32 rows reads 32 + 64 rows of operands for q k^T and 64 for p v from
// shared memory, three quarters of the time that mma.sync needs for the products. Hence as many
// rows as registers hold, p in registers, and two blocks on a multiprocessor, so that one is at its
// exponentials while the other multiplies.
#pragma once

#include "framework/ops/attention_bf16_tiles.cuh"

namespace polyhead::ops::attention_bf16 {

template <int kQkDim, int kVDim>
struct ForwardShape {
  static constexpr int kQueries = 128, kKeys = kQkDim > kVDim ? 48 : 64;
  static constexpr int kWarps = kVDim > 128 ? 8 : 4, kThreads = 32 * kWarps;
  static constexpr int kBlocks = kVDim > 128 ? 1 : kVDim > 64 ? 2 : 3;  // on a multiprocessor

  using QTile = Tile<kQueries, kQkDim>;
  using KTile = Tile<kKeys, kQkDim>;
  using VTile = Tile<kKeys, kVDim>;
  static constexpr int kStageBytes = KTile::kBytes + VTile::kBytes;
  static constexpr int shared_bytes(int stages) { return QTile::kBytes + stages * kStageBytes; }
};

// The softmax of a row is taken relative to a shift, the largest score at some time. A later score
// may exceed it by this much (in log2 units) before sums are rescaled; it costs no accuracy.
inline constexpr float kShiftSlack = 8;

template <int kM, int kN>
__device__ __forceinline__ void multiply_rows(const float (&factor)[kM][2], Sum (&c)[kM][kN]) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
#pragma unroll
      for (int n = 0; n < kN; ++n) {
        c[m][n].element[2 * half] *= factor[m][half];
        c[m][n].element[2 * half + 1] *= factor[m][half];
      }
    }
  }
}

// The state of a warp's softmax, for rows row(m) and row(m) + 8 of its place.
template <int kM>
struct Softmax {
  float shift[kM][2];             // in units of the scores; -infinity before the first key
  float denominator[kM][2] = {};  // this lane's part

  __device__ __forceinline__ Softmax() {
#pragma unroll
    for (int m = 0; m < kM; ++m) shift[m][0] = shift[m][1] = -kInfinity;
  }

  // Raises the shifts where scores exceed them by more than the slack. Sums so far are then to be
  // multiplied by `factor`, rows that were not raised by 1. The same for all lanes.
  template <int kN>
  __device__ __forceinline__ bool raise(float unit, const Sum (&score)[kM][kN],
                                        float (&factor)[kM][2]) {
    float largest[kM][2];
    bool grows = false;
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float& row = largest[m][half];
        row = -kInfinity;
#pragma unroll
        for (int n = 0; n < kN; ++n) {
          row = fmaxf(row, fmaxf(score[m][n].element[2 * half], score[m][n].element[2 * half + 1]));
        }
        row = fmaxf(row, __shfl_xor_sync(0xffffffffu, row, 1));
        row = fmaxf(row, __shfl_xor_sync(0xffffffffu, row, 2));
        // False if both are -infinity.
        if ((row - shift[m][half]) * unit > kShiftSlack) {
          grows = true;
        } else {
          row = shift[m][half];
        }
      }
    }
    grows = __any_sync(0xffffffffu, grows);
    if (grows) {
#pragma unroll
      for (int m = 0; m < kM; ++m) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
          factor[m][half] = shift[m][half] == -kInfinity
                                ? 0.0f
                                : power_of_two((shift[m][half] - largest[m][half]) * unit);
          shift[m][half] = largest[m][half];
          denominator[m][half] *= factor[m][half];
        }
      }
    }
    return grows;
  }

  // Scores become weights, exp2(unit (score - shift)).
  template <int kN>
  __device__ __forceinline__ void weigh(float unit, Sum (&score)[kM][kN]) {
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float offset = shift[m][half] == -kInfinity ? 0.0f : -shift[m][half] * unit;
#pragma unroll
        for (int n = 0; n < kN; ++n) {
#pragma unroll
          for (int i = 2 * half; i < 2 * half + 2; ++i) {
            float& s = score[m][n].element[i];
            s = power_of_two(fmaf(s, unit, offset));
            denominator[m][half] += s;
          }
        }
      }
    }
  }

  // Sums become means. Calls store(m, half, lse) for each row.
  template <int kOut, class Store>
  __device__ __forceinline__ void finish(float unit, Sum (&out)[kM][kOut], const Store& store) {
    float inverse[kM][2];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        float sum = denominator[m][half];
        sum += __shfl_xor_sync(0xffffffffu, sum, 1);
        sum += __shfl_xor_sync(0xffffffffu, sum, 2);
        inverse[m][half] = sum == 0 ? 0.0f : 1.0f / sum;
        store(m, half, sum == 0 ? -kInfinity : shift[m][half] * unit * kLn2 + logf(sum));
      }
    }
    multiply_rows(inverse, out);
  }
};

// Scores against keys from `first_key` on: soft-cap and ALiBi, then -infinity where a query does
// not see a key. `first_query` is that of the tile.
template <bool kGeneral, class Place, int kM, int kN>
__device__ __forceinline__ void finish_scores(const Arguments& a, const ScoreOptions& options,
                                              bool masked, int batch, int first_query,
                                              int first_key, const Place& place,
                                              Sum (&score)[kM][kN]) {
  if (!kGeneral && !masked) return;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = first_query + place.row(m) + 8 * half;
      const int position = a.query_offset + query;
      KeyRange range = visible_keys(a, position);
      if (kGeneral) range.begin = max(range.begin, document_of(a, batch, query));
#pragma unroll
      for (int n = 0; n < kN; ++n) {
#pragma unroll
        for (int i = 0; i < 2; ++i) {
          const int key = first_key + place.column(n) + i;
          float& s = score[m][n].element[2 * half + i];
          if (kGeneral) {
            float derivative;
            s = options.score(s, position - key, derivative);
          }
          if (key < range.begin || key >= range.end) s = -kInfinity;
        }
      }
    }
  }
}

template <int kQkDim, int kVDim, bool kGeneral>
__global__ void __launch_bounds__(ForwardShape<kQkDim, kVDim>::kThreads,
                                  ForwardShape<kQkDim, kVDim>::kBlocks)
    forward_kernel(const __grid_constant__ Arguments a, const __grid_constant__ Schedule schedule,
                   const int stages) {
  cuda::wait_for_work_before();
  using Shape = ForwardShape<kQkDim, kVDim>;
  using QTile = typename Shape::QTile;
  using KTile = typename Shape::KTile;
  using VTile = typename Shape::VTile;
  constexpr int kQueries = Shape::kQueries, kKeys = Shape::kKeys, kThreads = Shape::kThreads;
  constexpr int kM = kQueries / 16 / Shape::kWarps;
  extern __shared__ __align__(1024) unsigned char memory[];
  const QTile q_tile{shared_address(memory)};
  const std::uint32_t stage_memory = q_tile.address + QTile::kBytes;

  const auto [column, row, last_section] = schedule.at(static_cast<int>(blockIdx.x));
  const int batch = column / a.heads, head = column % a.heads, group = head / a.heads_per_group;
  // Late queries see most keys: long work first, and short work fills the gaps at the end.
  const int first = (schedule.rows - 1 - row) * kQueries;
  const int position = a.query_offset + first;
  const int last_position = a.query_offset + min(first + kQueries, a.queries) - 1;
  const int first_block = visible_keys(a, position).begin / kKeys;
  const int end_block = (visible_keys(a, last_position).end + kKeys - 1) / kKeys;
  const std::int64_t first_row = static_cast<std::int64_t>(batch) * a.queries + first;
  const std::int64_t first_key_row = static_cast<std::int64_t>(batch) * a.keys;
  const auto load_keys = [&](int block, int stage) {
    const int key = block * kKeys;
    const KTile k_tile{stage_memory + stage * Shape::kStageBytes};
    const VTile v_tile{k_tile.address + KTile::kBytes};
    load_tile<kThreads, kGeneral>(k_tile, a.k.at(first_key_row + key, group), a.k, a.keys - key,
                                  a.aligned);
    load_tile<kThreads, kGeneral>(v_tile, a.v.at(first_key_row + key, group), a.v, a.keys - key,
                                  a.aligned);
  };

  const int lane = static_cast<int>(threadIdx.x) % 32;
  const int warp = same_in_warp(static_cast<int>(threadIdx.x) / 32);
  const Place<1, 1> place(static_cast<int>(threadIdx.x), kM * warp, 0);
  const Operand<QTile, Side::kA, false> q(q_tile, kM * warp);
  const ScoreOptions options(a, head);
  const float unit = kGeneral ? 1.0f : options.to_log2;
  Softmax<kM> softmax;
  Sum out[kM][kVDim / 8];

  int stage = 0;
  if (first_block < end_block) {
    load_tile<kThreads, kGeneral>(q_tile, a.q.at(first_row, head), a.q, a.queries - first,
                                  a.aligned);
    load_keys(end_block - 1, stage);
  }
  for (int block = end_block - 1; block >= first_block; --block) {
    wait_for_copies();
    __syncthreads();  // all see this block, and are done with the one before
    if (stages == 2 && block > first_block) load_keys(block - 1, stage ^ 1);
    const KTile k_tile{stage_memory + stage * Shape::kStageBytes};
    const VTile v_tile{k_tile.address + KTile::kBytes};

    Sum score[kM][kKeys / 8];
    multiply<kQkDim / 16>(q, Operand<KTile, Side::kB, false>(k_tile, 0), score);
    const int key = block * kKeys;
    const bool masked = !all_visible(a, position, last_position, key, key + kKeys);
    finish_scores<kGeneral>(a, options, masked, batch, first, key, place, score);
    float factor[kM][2];
    if (softmax.raise(unit, score, factor)) multiply_rows(factor, out);
    softmax.weigh(unit, score);
    multiply<kKeys / 16>(SumOperand(score), Operand<VTile, Side::kB, true>(v_tile, 0), out);

    if (stages == 2) {
      stage ^= 1;
    } else if (block > first_block) {
      __syncthreads();
      load_keys(block - 1, stage);
    }
  }

  softmax.finish(unit, out, [&](int m, int half, float lse) {
    const int query = first + place.row(m) + 8 * half;
    if (lane % 4 == 0 && query < a.queries) {
      a.lse[static_cast<std::int64_t>(column) * a.queries + query] = lse;
    }
  });
  // The rows of q that this warp alone has read take its rows of out.
  __syncwarp();
  store_sums(out, 1.0f, place, q_tile);
  __syncwarp();
  store_tile<32, 16 * kM, kGeneral>(q_tile, lane, 16 * kM * warp, a.out.at(first_row, head), a.out,
                                    a.queries - first, a.aligned);
}

}  // namespace polyhead::ops::attention_bf16
