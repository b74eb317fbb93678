// What the f32 attention kernels share: tiles in shared memory, products between them, masks and
// scores. Private to framework/ops.
//
// A tile has 32 queries or keys. A warp owns kOwned rows of one tile; each of its lanes stands for
// a row of another tile while their products are made, and for every 32nd dimension while rows are
// summed. One thread makes each sum, in a fixed order.
#pragma once

#include "framework/cuda/reduce.cuh"
#include "framework/ops/attention.h"

namespace polyhead::ops::kernel::attention_f32 {

using cuda::kWarpSize;

inline constexpr int kTile = kWarpSize;  // rows: a lane for each
inline constexpr int kOwned = 4;         // rows of a warp: their weights for one lane are a float4
inline constexpr int kWarps = kTile / kOwned;
inline constexpr int kThreads = kWarps * kWarpSize;
inline constexpr int kMostDims = 256;

struct Heads {
  float* data;
  std::int64_t row_stride, head_stride;
  int dims;

  __device__ float* at(std::int64_t row, int head) const {
    return data + row * row_stride + head * head_stride;
  }
};

struct Problem {
  Heads q, k, v, out;
  float* lse;  // (B, H, Tq)
  Heads dout, dq, dk, dv;
  float* delta;  // (B, H, Tq): dout . out
  const float* slopes;
  const std::int32_t* document_start;
  float scale, softcap;
  int query_offset, window;
  bool causal;
  int queries, keys, heads, heads_per_group;
};

// A tile's rows in shared memory: dimensions padded with zeros to float4s, of which there is an odd
// number, so that lanes that read neighbouring rows meet different banks.
__host__ __device__ constexpr int packs_of(int dims) {
  return (dims + 3) / 4;
}
__host__ __device__ constexpr int row_packs(int dims) {
  return packs_of(dims) | 1;
}
__host__ __device__ constexpr int tile_packs(int dims) {
  return kTile * row_packs(dims);
}

// Rows [first, first + 32) of a head, zero from `count` on. The caller synchronises.
__device__ inline void load_tile(const Heads& from, std::int64_t first_row, int count, int head,
                                 float4* tile) {
  const int padded = 4 * packs_of(from.dims);
  for (int row = static_cast<int>(threadIdx.y); row < kTile; row += kWarps) {
    const float* const source = from.at(first_row + row, head);
    float* const target = reinterpret_cast<float*>(tile + row * row_packs(from.dims));
    for (int d = static_cast<int>(threadIdx.x); d < padded; d += kWarpSize) {
      target[d] = row < count && d < from.dims ? source[d] : 0.0f;
    }
  }
}

// dots[r] = row r of `owned` . row `lane` of `others`.
__device__ __forceinline__ void multiply(const float4* owned, const float4* others, int dims,
                                         float (&dots)[kOwned]) {
  const int stride = row_packs(dims);
  const float4* const other = others + threadIdx.x * stride;
#pragma unroll
  for (int r = 0; r < kOwned; ++r) dots[r] = 0;
  for (int p = 0; p < packs_of(dims); ++p) {
    const float4 b = other[p];
#pragma unroll
    for (int r = 0; r < kOwned; ++r) {
      const float4 a = owned[r * stride + p];
      dots[r] = fmaf(a.x, b.x, fmaf(a.y, b.y, fmaf(a.z, b.z, fmaf(a.w, b.w, dots[r]))));
    }
  }
}

// sums[r][c] += sum over l of weights[r] of lane l times `others`[l][lane + 32 c].
template <int kColumns>
__device__ __forceinline__ void accumulate(const float (&weights)[kOwned], const float4* others,
                                           int dims, float4* exchange,
                                           float (&sums)[kOwned][kColumns]) {
  static_assert(kOwned == 4);
  const int lane = static_cast<int>(threadIdx.x), stride = 4 * row_packs(dims);
  exchange[lane] = make_float4(weights[0], weights[1], weights[2], weights[3]);
  __syncwarp();
  const float* other = reinterpret_cast<const float*>(others) + lane;
  for (int l = 0; l < kTile; ++l, other += stride) {
    const float4 weight = exchange[l];
#pragma unroll
    for (int c = 0; c < kColumns; ++c) {
      const float value = lane + c * kWarpSize < dims ? other[c * kWarpSize] : 0.0f;
      sums[0][c] = fmaf(weight.x, value, sums[0][c]);
      sums[1][c] = fmaf(weight.y, value, sums[1][c]);
      sums[2][c] = fmaf(weight.z, value, sums[2][c]);
      sums[3][c] = fmaf(weight.w, value, sums[3][c]);
    }
  }
  __syncwarp();
}

template <int kColumns>
__device__ __forceinline__ void store_row(const float (&sums)[kColumns], float factor,
                                          const Heads& to, std::int64_t row, int head) {
#pragma unroll
  for (int c = 0; c < kColumns; ++c) {
    const int d = static_cast<int>(threadIdx.x) + c * kWarpSize;
    if (d < to.dims) to.at(row, head)[d] = factor * sums[c];
  }
}

// Keys [begin, end) that a query sees; none for one behind the last.
struct KeyRange {
  int begin, end;

  __device__ bool contains(int key) const { return begin <= key && key < end; }
};

__device__ inline KeyRange keys_seen(const Problem& p, int sequence, int query) {
  if (query >= p.queries) return {p.keys, 0};
  const int position = p.query_offset + query;
  KeyRange seen{0, p.causal ? min(p.keys, position + 1) : p.keys};
  if (p.window > 0) seen.begin = max(0, position - p.window + 1);
  if (p.document_start != nullptr) {
    const std::int64_t row = static_cast<std::int64_t>(sequence) * p.queries + query;
    seen.begin = max(seen.begin, p.document_start[row]);
  }
  return seen;
}

// The argument of the softmax and its derivative by scale * q . k.
struct Score {
  float value, derivative;
};

__device__ __forceinline__ Score score_of(const Problem& p, float slope, float dot, int query,
                                          int key) {
  Score score{p.scale * dot, 1};
  if (p.softcap > 0) {
    const float ratio = tanhf(score.value / p.softcap);
    score = {p.softcap * ratio, fmaf(-ratio, ratio, 1.0f)};
  }
  score.value = fmaf(-slope, static_cast<float>(abs(p.query_offset + query - key)), score.value);
  return score;
}

// P and dS of a pair; 0 where the query does not see the key.
struct PairGradient {
  float weight, dscore;
};

__device__ __forceinline__ PairGradient pair_gradient(const Problem& p, float slope, float dot,
                                                      float dweight, int query, int key, bool seen,
                                                      float lse, float delta) {
  if (!seen) return {0, 0};
  const Score score = score_of(p, slope, dot, query, key);
  const float weight = expf(score.value - lse);
  return {weight, weight * (dweight - delta) * score.derivative};
}

// Where a block works: a tile of rows of one head (of q, or of k and v) in one sequence.
struct Place {
  int lane = static_cast<int>(threadIdx.x);
  int own = static_cast<int>(threadIdx.y) * kOwned;  // the warp's first row in the tile
  int first = static_cast<int>(blockIdx.x) * kTile;
  int head = static_cast<int>(blockIdx.y);
  int sequence = static_cast<int>(blockIdx.z);

  __device__ std::int64_t row(int rows) const {
    return static_cast<std::int64_t>(sequence) * rows + first;
  }
};

__device__ inline std::int64_t statistics_row(const Problem& p, int sequence, int head) {
  return (static_cast<std::int64_t>(sequence) * p.heads + head) * p.queries;
}

// Calls visit(first_key) for every tile of keys that a query of the block's tile sees, and tells
// the warp what its queries see. The same for all threads of the block.
template <class Visit>
__device__ __forceinline__ void for_each_key_tile(const Problem& p, const Place& place,
                                                  KeyRange (&own)[kOwned], const Visit& visit) {
  const KeyRange seen = keys_seen(p, place.sequence, place.first + place.lane);
#pragma unroll
  for (int r = 0; r < kOwned; ++r) {
    own[r].begin = __shfl_sync(0xffffffffu, seen.begin, place.own + r);
    own[r].end = __shfl_sync(0xffffffffu, seen.end, place.own + r);
  }
  const auto smaller = [](int a, int b) { return min(a, b); };
  const auto larger = [](int a, int b) { return max(a, b); };
  const int begin = cuda::warp_reduce(seen.begin, smaller);
  const int end = cuda::warp_reduce(seen.end, larger);
  for (int key = begin / kTile * kTile; key < end; key += kTile) visit(key);
}

__device__ __forceinline__ float slope_of(const Problem& p, int head) {
  return p.slopes == nullptr ? 0.0f : p.slopes[head];
}

}  // namespace polyhead::ops::kernel::attention_f32
