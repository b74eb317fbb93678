// Forward pass in bf16 (FlashAttention-2, Dao 2023): a block owns 64 kM queries of one head, each
// of its four warps 16 kM; keys and values pass through shared memory in blocks of 64, the copy of
// one under the product of the other. Private to framework/ops.
#pragma once

#include "framework/ops/attention_bf16.cuh"

namespace polyhead::ops::attention_bf16 {

inline constexpr int kForwardThreads = 128, kForwardKeys = 64;

// Shared memory: 2 (64 kM K + 64 K + 64 V) bytes.
template <int kQkDim, int kVDim, int kM, bool kExtras>
__global__ void __launch_bounds__(kForwardThreads) forward_kernel(const Arguments a) {
  constexpr int kRows = 64 * kM, kKeys = kForwardKeys, kTilesN = kKeys / 8, kTilesV = kVDim / 8;
  extern __shared__ __align__(128) unsigned char memory[];
  const Tile<kRows, kQkDim> q_tile{reinterpret_cast<bf16*>(memory)};
  const Tile<kKeys, kQkDim> k_tile{q_tile.data + q_tile.kElements};
  const Tile<kKeys, kVDim> v_tile{k_tile.data + k_tile.kElements};

  // Late queries see most keys: they come first.
  const int first = static_cast<int>(gridDim.x - 1 - blockIdx.x) * kRows;
  const int head = static_cast<int>(blockIdx.y), batch = static_cast<int>(blockIdx.z);
  const int group = head / a.heads_per_group;
  const bf16* const q = a.q.data + static_cast<std::int64_t>(batch) * a.queries * a.q.row_stride +
                        head * a.q.head_stride;
  const bf16* const k = a.k.data + static_cast<std::int64_t>(batch) * a.keys * a.k.row_stride +
                        group * a.k.head_stride;
  const bf16* const v = a.v.data + static_cast<std::int64_t>(batch) * a.keys * a.v.row_stride +
                        group * a.v.head_stride;
  const int warp_row = static_cast<int>(threadIdx.x) / 32 * 16 * kM;
  const int last = min(first + kRows, a.queries) - 1;
  const int keys_end = visible_keys(a, last).end;
  const int keys_begin = visible_keys(a, first).begin / kKeys * kKeys;
  const float slope = kExtras && a.slopes != nullptr ? a.slopes[head] : 0.0f;
  const float to_log2 = a.scale * kLog2E;

  Sum out[kM][kTilesV];
  float maximum[kM][2], denominator[kM][2];  // of each row: the scores in log2 units
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      maximum[m][half] = -kInfinity;
      denominator[m][half] = 0;
    }
  }

  load_tile<kForwardThreads>(q_tile, q, a.q, first, a.queries, a.aligned);
  if (keys_begin < keys_end) {
    load_tile<kForwardThreads>(k_tile, k, a.k, keys_begin, a.keys, a.aligned);
  }
  commit_copies();

  for (int key = keys_begin; key < keys_end; key += kKeys) {
    wait_for_copies<0>();
    __syncthreads();
    load_tile<kForwardThreads>(v_tile, v, a.v, key, a.keys, a.aligned);
    commit_copies();

    Sum score[kM][kTilesN];
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int n = 0; n < kTilesN; ++n) score[m][n] = Sum{};
    }
    multiply_rows(q_tile, warp_row, k_tile, score);
    wait_for_copies<0>();
    __syncthreads();
    if (key + kKeys < keys_end) {
      load_tile<kForwardThreads>(k_tile, k, a.k, key + kKeys, a.keys, a.aligned);
      commit_copies();
    }

    const bool masked = key < visible_keys(a, last).begin ||
                        key + kKeys > visible_keys(a, first).end ||
                        (kExtras && a.document_start != nullptr);
#pragma unroll
    for (int m = 0; m < kM; ++m) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int query = first + warp_row + 16 * m + row_of(2 * half);
        KeyRange range = visible_keys(a, query);
        if (kExtras && a.document_start != nullptr && query < a.queries) {
          range.begin = max(range.begin,
                            a.document_start[static_cast<std::int64_t>(batch) * a.queries + query]);
        }
        float largest = maximum[m][half];
#pragma unroll
        for (int n = 0; n < kTilesN; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float& s = score[m][n].element[2 * half + i];
            const int j = key + 8 * n + column_of(i);
            if (kExtras) {
              float dcap;
              s = with_extras(a, slope, s * a.scale, query, j, dcap) * kLog2E;
            }
            if (masked && (j < range.begin || j >= range.end)) s = -kInfinity;
            largest = fmaxf(largest, s);
          }
        }
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = fmaxf(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
        const float unit = kExtras ? 1.0f : to_log2;
        // A row that has seen no key yet is shifted by 0, not by -infinity.
        const float shift = largest == -kInfinity ? 0.0f : largest * unit;
        const float rescale =
            maximum[m][half] == -kInfinity ? 0.0f : power_of_two(maximum[m][half] * unit - shift);
        maximum[m][half] = largest;
        float sum = 0;
#pragma unroll
        for (int n = 0; n < kTilesN; ++n) {
#pragma unroll
          for (int i = 0; i < 2; ++i) {
            float& s = score[m][n].element[2 * half + i];
            s = power_of_two(fmaf(s, unit, -shift));
            sum += s;
          }
        }
        denominator[m][half] = denominator[m][half] * rescale + sum;
#pragma unroll
        for (int n = 0; n < kTilesV; ++n) {
          out[m][n].element[2 * half] *= rescale;
          out[m][n].element[2 * half + 1] *= rescale;
        }
      }
    }
    multiply_by_rows(score, v_tile, out);
  }

  bf16* const out_rows = a.out.data +
                         static_cast<std::int64_t>(batch) * a.queries * a.out.row_stride +
                         head * a.out.head_stride;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
    float inverse[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float sum = denominator[m][half];
      sum += __shfl_xor_sync(0xffffffffu, sum, 1);
      sum += __shfl_xor_sync(0xffffffffu, sum, 2);
      inverse[half] = sum > 0 ? 1.0f / sum : (sum == 0 ? 0.0f : sum);
      const int query = first + warp_row + 16 * m + row_of(2 * half);
      if (threadIdx.x % 4 == 0 && query < a.queries) {
        const float unit = kExtras ? kLn2 : a.scale;
        a.lse[(static_cast<std::int64_t>(batch) * a.heads + head) * a.queries + query] =
            sum == 0 ? -kInfinity : maximum[m][half] * unit + logf(sum);
      }
    }
    store_rows(out[m], inverse, out_rows, a.out, first + warp_row + 16 * m, a.queries, a.aligned);
  }
}

}  // namespace polyhead::ops::attention_bf16
