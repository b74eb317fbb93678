// Backward pass in bf16, from the recomputed scores, in three kernels and without atomics: the same
// bits every time.
//
//   delta_i = dout_i . out_i
//   keys:    a block owns 64 keys of one group and walks over the queries of all its heads:
//            P = exp(s - lse);  dv += P^T dout;  dS = P (dout v^T - delta);  dk += dS^T q
//   queries: a block owns 64 kM queries of one head and walks over the keys: dq += dS k
//
// Scores and dout v^T are computed twice, seven products where a kernel that adds dq atomically
// needs five; in return dk and dv need no sums across blocks, whatever the groups. Private to
// framework/ops.
#pragma once

#include "framework/ops/attention_bf16.cuh"

namespace polyhead::ops::attention_bf16 {

inline constexpr int kBackwardThreads = 128, kBlockKeys = 64;

__device__ __forceinline__ const bf16* rows_of(const Heads& heads, int head, int batch, int rows) {
  return heads.data + static_cast<std::int64_t>(batch) * rows * heads.row_stride +
         head * heads.head_stride;
}

// One warp a query and head.
static __global__ void __launch_bounds__(256) delta_kernel(const Arguments a, std::int64_t rows) {
  const std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * 8 + threadIdx.x / 32;
  if (row >= rows * a.heads) return;
  const int lane = static_cast<int>(threadIdx.x) % 32;
  const std::int64_t n = row / a.heads;
  const int head = static_cast<int>(row % a.heads);
  const bf16* const out = a.out.data + n * a.out.row_stride + head * a.out.head_stride;
  const bf16* const dout = a.dout.data + n * a.dout.row_stride + head * a.dout.head_stride;
  float sum = 0;
  for (int i = lane; i < a.out.dim; i += 32) {
    sum += __bfloat162float(out[i]) * __bfloat162float(dout[i]);
  }
  sum = cuda::warp_reduce(sum, cuda::Sum());
  if (lane == 0) {
    const std::int64_t batch = n / a.queries;
    a.delta[(batch * a.heads + head) * a.queries + n % a.queries] = sum;
  }
}

// P and what dS = P (dP - delta) is multiplied with, for one pair; `score` is q . k.
template <bool kExtras>
__device__ __forceinline__ float probability(const Arguments& a, float slope, float score,
                                             float lse, int query, int key, float& factor) {
  if (kExtras) {
    return power_of_two((with_extras(a, slope, score * a.scale, query, key, factor) - lse) *
                        kLog2E);
  }
  factor = 1.0f;
  return power_of_two(fmaf(score, a.scale * kLog2E, -lse * kLog2E));
}

template <bool kExtras>
__device__ __forceinline__ bool sees(const Arguments& a, int batch, int query, int key) {
  KeyRange range = visible_keys(a, query);
  if (kExtras && a.document_start != nullptr && query < a.queries) {
    range.begin =
        max(range.begin, a.document_start[static_cast<std::int64_t>(batch) * a.queries + query]);
  }
  return key >= range.begin && key < range.end;
}

enum class Gradients { kBoth, kKeys, kValues };

// Shared memory: 2 (64 K + 64 V + kQueries (K + V)) bytes. kWhat: which of dk and dv are made;
// wide heads need a launch for each, since both do not fit the registers.
template <int kQkDim, int kVDim, int kQueries, Gradients kWhat, bool kExtras>
__global__ void __launch_bounds__(kBackwardThreads) keys_kernel(const Arguments a) {
  constexpr bool kWithKeys = kWhat != Gradients::kValues, kWithValues = kWhat != Gradients::kKeys;
  constexpr int kTilesN = kQueries / 8;
  extern __shared__ __align__(128) unsigned char memory[];
  const Tile<kBlockKeys, kQkDim> k_tile{reinterpret_cast<bf16*>(memory)};
  const Tile<kBlockKeys, kVDim> v_tile{k_tile.data + k_tile.kElements};
  const Tile<kQueries, kQkDim> q_tile{v_tile.data + v_tile.kElements};
  const Tile<kQueries, kVDim> dout_tile{q_tile.data + q_tile.kElements};

  const int first_key = static_cast<int>(blockIdx.x) * kBlockKeys;  // early keys are seen by most
  const int group = static_cast<int>(blockIdx.y), batch = static_cast<int>(blockIdx.z);
  const int last_key = min(first_key + kBlockKeys, a.keys) - 1;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16;
  // Queries that see at least one of the keys.
  int begin = a.causal ? max(0, first_key - a.query_offset) : 0;
  const int end =
      a.window > 0 ? min(a.queries, max(0, last_key + a.window - a.query_offset)) : a.queries;
  begin = begin / kQueries * kQueries;

  load_tile<kBackwardThreads>(k_tile, rows_of(a.k, group, batch, a.keys), a.k, first_key, a.keys,
                              a.aligned);
  load_tile<kBackwardThreads>(v_tile, rows_of(a.v, group, batch, a.keys), a.v, first_key, a.keys,
                              a.aligned);
  commit_copies();

  Sum dk[1][kWithKeys ? kQkDim / 8 : 1], dv[1][kWithValues ? kVDim / 8 : 1];
  for (int h = 0; h < a.heads_per_group; ++h) {
    const int head = group * a.heads_per_group + h;
    const float slope = kExtras && a.slopes != nullptr ? a.slopes[head] : 0.0f;
    const std::int64_t statistics = (static_cast<std::int64_t>(batch) * a.heads + head) * a.queries;
    for (int query = begin; query < end; query += kQueries) {
      __syncthreads();  // the last block's products are done
      load_tile<kBackwardThreads>(q_tile, rows_of(a.q, head, batch, a.queries), a.q, query,
                                  a.queries, a.aligned);
      load_tile<kBackwardThreads>(dout_tile, rows_of(a.dout, head, batch, a.queries), a.dout, query,
                                  a.queries, a.aligned);
      commit_copies();
      wait_for_copies<0>();
      __syncthreads();

      // Keys are the rows, queries the columns.
      Sum p[1][kTilesN];
      multiply_rows(k_tile, warp_row, q_tile, p);
      const int last_query = min(query + kQueries, a.queries) - 1;
      const bool masked = first_key < visible_keys(a, last_query).begin ||
                          first_key + kBlockKeys > visible_keys(a, query).end ||
                          (kExtras && a.document_start != nullptr);
      Sum weight[1][kTilesN];  // P times the derivative of the soft-cap
#pragma unroll
      for (int n = 0; n < kTilesN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int column = query + 8 * n + column_of(i), key = first_key + warp_row + row_of(i);
          const float lse = column < a.queries ? a.lse[statistics + column] : kInfinity;
          float factor;
          float probable =
              probability<kExtras>(a, slope, p[0][n].element[i], lse, column, key, factor);
          if (masked && !sees<kExtras>(a, batch, column, key)) probable = 0;
          p[0][n].element[i] = probable;
          weight[0][n].element[i] = probable * factor;
        }
      }
      if constexpr (kWithValues) multiply_by_rows(p, dout_tile, dv);
      if constexpr (kWithKeys) {
        Sum dp[1][kTilesN];
        multiply_rows(v_tile, warp_row, dout_tile, dp);
#pragma unroll
        for (int n = 0; n < kTilesN; ++n) {
#pragma unroll
          for (int i = 0; i < 4; ++i) {
            const int column = query + 8 * n + column_of(i);
            const float delta = column < a.queries ? a.delta[statistics + column] : 0.0f;
            dp[0][n].element[i] = weight[0][n].element[i] * (dp[0][n].element[i] - delta);
          }
        }
        multiply_by_rows(dp, q_tile, dk);
      }
    }
  }
  wait_for_copies<0>();

  if constexpr (kWithKeys) {
    const float scale[2] = {a.scale, a.scale};
    store_rows(dk[0], scale, const_cast<bf16*>(rows_of(a.dk, group, batch, a.keys)), a.dk,
               first_key + warp_row, a.keys, a.aligned);
  }
  if constexpr (kWithValues) {
    const float one[2] = {1.0f, 1.0f};
    store_rows(dv[0], one, const_cast<bf16*>(rows_of(a.dv, group, batch, a.keys)), a.dv,
               first_key + warp_row, a.keys, a.aligned);
  }
}

// Shared memory: 2 (64 kM + kKeys) (K + V) bytes.
template <int kQkDim, int kVDim, int kM, int kKeys, bool kExtras>
__global__ void __launch_bounds__(kBackwardThreads) queries_kernel(const Arguments a) {
  constexpr int kRows = 64 * kM, kTilesN = kKeys / 8;
  extern __shared__ __align__(128) unsigned char memory[];
  const Tile<kRows, kQkDim> q_tile{reinterpret_cast<bf16*>(memory)};
  const Tile<kRows, kVDim> dout_tile{q_tile.data + q_tile.kElements};
  const Tile<kKeys, kQkDim> k_tile{dout_tile.data + dout_tile.kElements};
  const Tile<kKeys, kVDim> v_tile{k_tile.data + k_tile.kElements};

  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows;
  const int head = static_cast<int>(blockIdx.y), batch = static_cast<int>(blockIdx.z);
  const int group = head / a.heads_per_group;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16 * kM;
  const int last = min(first + kRows, a.queries) - 1;
  const int keys_end = visible_keys(a, last).end;
  const int keys_begin = visible_keys(a, first).begin / kKeys * kKeys;
  const float slope = kExtras && a.slopes != nullptr ? a.slopes[head] : 0.0f;
  const std::int64_t statistics = (static_cast<std::int64_t>(batch) * a.heads + head) * a.queries;

  load_tile<kBackwardThreads>(q_tile, rows_of(a.q, head, batch, a.queries), a.q, first, a.queries,
                              a.aligned);
  load_tile<kBackwardThreads>(dout_tile, rows_of(a.dout, head, batch, a.queries), a.dout, first,
                              a.queries, a.aligned);
  commit_copies();
  float lse[kM][2], delta[kM][2];
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int query = first + warp_row + 16 * m + row_of(2 * half);
      lse[m][half] = query < a.queries ? a.lse[statistics + query] : kInfinity;
      delta[m][half] = query < a.queries ? a.delta[statistics + query] : 0.0f;
    }
  }

  Sum dq[kM][kQkDim / 8];
  for (int key = keys_begin; key < keys_end; key += kKeys) {
    __syncthreads();  // the last block's products are done
    load_tile<kBackwardThreads>(k_tile, rows_of(a.k, group, batch, a.keys), a.k, key, a.keys,
                                a.aligned);
    load_tile<kBackwardThreads>(v_tile, rows_of(a.v, group, batch, a.keys), a.v, key, a.keys,
                                a.aligned);
    commit_copies();
    wait_for_copies<0>();
    __syncthreads();

    Sum weight[kM][kTilesN], dp[kM][kTilesN];
    multiply_rows(q_tile, warp_row, k_tile, weight);
    multiply_rows(dout_tile, warp_row, v_tile, dp);
    const bool masked = key < visible_keys(a, last).begin ||
                        key + kKeys > visible_keys(a, first).end ||
                        (kExtras && a.document_start != nullptr);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kTilesN; ++n) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int query = first + warp_row + 16 * m + row_of(i);
          const int column = key + 8 * n + column_of(i);
          float factor;
          float probable = probability<kExtras>(a, slope, weight[m][n].element[i], lse[m][i / 2],
                                                query, column, factor);
          if (masked && !sees<kExtras>(a, batch, query, column)) probable = 0;
          dp[m][n].element[i] = probable * factor * (dp[m][n].element[i] - delta[m][i / 2]);
        }
      }
    }
    multiply_by_rows(dp, k_tile, dq);
  }
  wait_for_copies<0>();

  const float scale[2] = {a.scale, a.scale};
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    store_rows(dq[m], scale, const_cast<bf16*>(rows_of(a.dq, head, batch, a.queries)), a.dq,
               first + warp_row + 16 * m, a.queries, a.aligned);
  }
}

}  // namespace polyhead::ops::attention_bf16
