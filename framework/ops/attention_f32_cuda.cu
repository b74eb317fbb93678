// A block owns a tile of queries and walks over the keys that they see, for the output and for dq;
// or it owns a tile of keys and walks over all queries, for dk and dv. Scores are made again each
// time.
#include "framework/ops/attention_f32_cuda.h"

#include <algorithm>
#include <cmath>

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/ops/attention_f32_tiles.cuh"

namespace polyhead::ops::kernel {
namespace attention_f32 {
namespace {

template <int kColumns>
__global__ void __launch_bounds__(kThreads) forward_kernel(const Problem p) {
  extern __shared__ float4 shared[];
  float4* const q = shared;
  float4* const k = q + tile_packs(p.q.dims);
  float4* const v = k + tile_packs(p.q.dims);
  float4* const exchange = v + tile_packs(p.v.dims) + threadIdx.y * kWarpSize;
  const Place place;
  const int group = place.head / p.heads_per_group;
  const float slope = slope_of(p, place.head);
  const float infinity = INFINITY;
  load_tile(p.q, place.row(p.queries), p.queries - place.first, place.head, q);

  float maximum[kOwned], denominator[kOwned] = {}, sums[kOwned][kColumns] = {};
#pragma unroll
  for (int r = 0; r < kOwned; ++r) maximum[r] = -infinity;
  KeyRange own[kOwned];
  for_each_key_tile(p, place, own, [&](int first_key) {
    const std::int64_t key_row = static_cast<std::int64_t>(place.sequence) * p.keys + first_key;
    __syncthreads();
    load_tile(p.k, key_row, p.keys - first_key, group, k);
    load_tile(p.v, key_row, p.keys - first_key, group, v);
    __syncthreads();
    const int key = first_key + place.lane;
    float weights[kOwned];
    multiply(q + place.own * row_packs(p.q.dims), k, p.q.dims, weights);
#pragma unroll
    for (int r = 0; r < kOwned; ++r) {
      const int query = place.first + place.own + r;
      const float score =
          own[r].contains(key) ? score_of(p, slope, weights[r], query, key).value : -infinity;
      const float new_maximum = cuda::Max{}(maximum[r], cuda::warp_reduce(score, cuda::Max{}));
      // A query that has seen no key yet: shift by 0, not by -infinity.
      const float shift = new_maximum == -infinity ? 0.0f : new_maximum;
      const float correction = expf(maximum[r] - shift);
      weights[r] = expf(score - shift);
      maximum[r] = new_maximum;
      denominator[r] = fmaf(denominator[r], correction, weights[r]);
#pragma unroll
      for (int c = 0; c < kColumns; ++c) sums[r][c] *= correction;
    }
    accumulate(weights, v, p.v.dims, exchange, sums);
  });

#pragma unroll
  for (int r = 0; r < kOwned; ++r) {
    const float total = cuda::warp_reduce(denominator[r], cuda::Sum{});
    const int query = place.first + place.own + r;
    if (query >= p.queries) continue;
    const std::int64_t row = place.row(p.queries) + place.own + r;
    store_row(sums[r], total == 0 ? 0.0f : 1 / total, p.out, row, place.head);
    if (place.lane == 0) {
      p.lse[statistics_row(p, place.sequence, place.head) + query] =
          total == 0 ? -infinity : maximum[r] + logf(total);
    }
  }
}

// delta = dout . out; a warp for each query, kOwned queries of a head.
__global__ void __launch_bounds__(kThreads) delta_kernel(const Problem p) {
  const Place place;
  for (int r = place.own; r < place.own + kOwned; ++r) {
    const int query = place.first + r;
    if (query >= p.queries) return;
    const float* const dout = p.dout.at(place.row(p.queries) + r, place.head);
    const float* const out = p.out.at(place.row(p.queries) + r, place.head);
    float sum = 0;
    for (int d = place.lane; d < p.v.dims; d += kWarpSize) sum = fmaf(dout[d], out[d], sum);
    sum = cuda::warp_reduce(sum, cuda::Sum{});
    if (place.lane == 0) p.delta[statistics_row(p, place.sequence, place.head) + query] = sum;
  }
}

// dQ = scale dS K
template <int kColumns>
__global__ void __launch_bounds__(kThreads) query_gradient_kernel(const Problem p) {
  extern __shared__ float4 shared[];
  float4* const q = shared;
  float4* const dout = q + tile_packs(p.q.dims);
  float4* const k = dout + tile_packs(p.v.dims);
  float4* const v = k + tile_packs(p.q.dims);
  float4* const exchange = v + tile_packs(p.v.dims) + threadIdx.y * kWarpSize;
  const Place place;
  const int group = place.head / p.heads_per_group;
  const float slope = slope_of(p, place.head);
  load_tile(p.q, place.row(p.queries), p.queries - place.first, place.head, q);
  load_tile(p.dout, place.row(p.queries), p.queries - place.first, place.head, dout);

  float lse[kOwned], delta[kOwned], sums[kOwned][kColumns] = {};
#pragma unroll
  for (int r = 0; r < kOwned; ++r) {
    const int query = min(place.first + place.own + r, p.queries - 1);
    lse[r] = p.lse[statistics_row(p, place.sequence, place.head) + query];
    delta[r] = p.delta[statistics_row(p, place.sequence, place.head) + query];
  }
  KeyRange own[kOwned];
  for_each_key_tile(p, place, own, [&](int first_key) {
    const std::int64_t key_row = static_cast<std::int64_t>(place.sequence) * p.keys + first_key;
    __syncthreads();
    load_tile(p.k, key_row, p.keys - first_key, group, k);
    load_tile(p.v, key_row, p.keys - first_key, group, v);
    __syncthreads();
    const int key = first_key + place.lane;
    float dots[kOwned], dscores[kOwned];
    multiply(q + place.own * row_packs(p.q.dims), k, p.q.dims, dots);
    multiply(dout + place.own * row_packs(p.v.dims), v, p.v.dims, dscores);
#pragma unroll
    for (int r = 0; r < kOwned; ++r) {
      const int query = place.first + place.own + r;
      dscores[r] = pair_gradient(p, slope, dots[r], dscores[r], query, key, own[r].contains(key),
                                 lse[r], delta[r])
                       .dscore;
    }
    accumulate(dscores, k, p.q.dims, exchange, sums);
  });

#pragma unroll
  for (int r = 0; r < kOwned; ++r) {
    if (place.first + place.own + r >= p.queries) continue;
    store_row(sums[r], p.scale, p.dq, place.row(p.queries) + place.own + r, place.head);
  }
}

// dK = scale dS^T Q and dV = P^T dout, over the query heads of a group and then the queries.
template <int kColumns>
__global__ void __launch_bounds__(kThreads) key_gradient_kernel(const Problem p) {
  extern __shared__ float4 shared[];
  float4* const k = shared;
  float4* const v = k + tile_packs(p.q.dims);
  float4* const q = v + tile_packs(p.v.dims);
  float4* const dout = q + tile_packs(p.q.dims);
  float4* const exchange = dout + tile_packs(p.v.dims) + threadIdx.y * kWarpSize;
  const Place place;
  load_tile(p.k, place.row(p.keys), p.keys - place.first, place.head, k);
  load_tile(p.v, place.row(p.keys), p.keys - place.first, place.head, v);

  float dk[kOwned][kColumns] = {}, dv[kOwned][kColumns] = {};
  for (int h = 0; h < p.heads_per_group; ++h) {
    const int head = place.head * p.heads_per_group + h;
    const float slope = slope_of(p, head);
    for (int first_query = 0; first_query < p.queries; first_query += kTile) {
      const int query = first_query + place.lane;
      const KeyRange seen = keys_seen(p, place.sequence, query);
      const bool meets = seen.begin < place.first + kTile && seen.end > place.first;
      if (__any_sync(0xffffffffu, meets) == 0) continue;  // the same in every warp
      const std::int64_t query_row =
          static_cast<std::int64_t>(place.sequence) * p.queries + first_query;
      __syncthreads();
      load_tile(p.q, query_row, p.queries - first_query, head, q);
      load_tile(p.dout, query_row, p.queries - first_query, head, dout);
      __syncthreads();
      const std::int64_t statistic =
          statistics_row(p, place.sequence, head) + min(query, p.queries - 1);
      const float lse = p.lse[statistic], delta = p.delta[statistic];
      float weights[kOwned], dscores[kOwned];
      multiply(k + place.own * row_packs(p.q.dims), q, p.q.dims, weights);
      multiply(v + place.own * row_packs(p.v.dims), dout, p.v.dims, dscores);
#pragma unroll
      for (int r = 0; r < kOwned; ++r) {
        const int key = place.first + place.own + r;
        const PairGradient pair = pair_gradient(p, slope, weights[r], dscores[r], query, key,
                                                seen.contains(key), lse, delta);
        weights[r] = pair.weight;
        dscores[r] = pair.dscore;
      }
      accumulate(weights, dout, p.v.dims, exchange, dv);
      accumulate(dscores, q, p.q.dims, exchange, dk);
    }
  }

#pragma unroll
  for (int r = 0; r < kOwned; ++r) {
    if (place.first + place.own + r >= p.keys) continue;
    const std::int64_t row = place.row(p.keys) + place.own + r;
    store_row(dk[r], p.scale, p.dk, row, place.head);
    store_row(dv[r], 1.0f, p.dv, row, place.head);
  }
}

// The kernels read through the same views that they write through.
Heads as_heads(const HeadView& view) {
  return {const_cast<float*>(view.columns.data<float>()), view.columns.row_stride(),
          view.head_stride, static_cast<int>(view.head_dim)};
}

Problem problem_of(const HeadView& q, const HeadView& k, const HeadView& v, const HeadView& out,
                   const Tensor& lse, std::int64_t batch, const AttentionSpec& spec) {
  POLYHEAD_CHECK(q.head_dim <= kMostDims && v.head_dim <= kMostDims,
                 "attention on CUDA: head dimensions {} and {} are over {}", q.head_dim, v.head_dim,
                 kMostDims);
  Problem p{};
  p.q = as_heads(q);
  p.k = as_heads(k);
  p.v = as_heads(v);
  p.out = as_heads(out);
  p.lse = const_cast<float*>(lse.data<float>());
  if (spec.alibi_slopes) p.slopes = spec.alibi_slopes.data<float>();
  if (spec.document_start) p.document_start = spec.document_start.data<std::int32_t>();
  p.scale = static_cast<float>(spec.scale);
  p.softcap = static_cast<float>(spec.softcap);
  p.query_offset = static_cast<int>(spec.query_offset);
  p.window = static_cast<int>(spec.window);
  p.causal = spec.causal;
  p.queries = static_cast<int>(q.columns.rows() / batch);
  p.keys = static_cast<int>(k.columns.rows() / batch);
  p.heads = static_cast<int>(q.heads);
  p.heads_per_group = static_cast<int>(q.heads / k.heads);
  return p;
}

// A block for each tile of `rows`, head and sequence, with `tile_memory` float4s for its tiles.
using Kernel = void (*)(Problem);
void launch(Kernel kernel, const char* name, const Problem& p, int rows, int heads,
            std::int64_t batch, int tile_memory) {
  const std::size_t bytes = static_cast<std::size_t>(tile_memory + kThreads) * sizeof(float4);
  POLYHEAD_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(bytes)));
  const dim3 grid(static_cast<unsigned>((rows + kTile - 1) / kTile), static_cast<unsigned>(heads),
                  static_cast<unsigned>(batch));
  kernel<<<grid, dim3(kWarpSize, kWarps), bytes, cuda::Context::instance().stream()>>>(p);
  cuda::check_launch(name);
}

// Calls use.operator()<kColumns>() with the columns of a lane.
template <class Use>
void dispatch_columns(int dims, const Use& use) {
  if (dims <= 2 * kWarpSize) return use.template operator()<2>();
  if (dims <= 4 * kWarpSize) return use.template operator()<4>();
  return use.template operator()<kMostDims / kWarpSize>();
}

}  // namespace
}  // namespace attention_f32

void attention_forward_f32(const HeadView& q, const HeadView& k, const HeadView& v,
                           std::int64_t batch, const AttentionSpec& spec, HeadView& out,
                           Tensor& lse) {
  using namespace attention_f32;
  const Problem p = problem_of(q, k, v, out, lse, batch, spec);
  dispatch_columns(p.v.dims, [&]<int kColumns>() {
    launch(forward_kernel<kColumns>, "f32 attention forward", p, p.queries, p.heads, batch,
           2 * tile_packs(p.q.dims) + tile_packs(p.v.dims));
  });
}

void attention_backward_f32(const HeadView& dout, const HeadView& q, const HeadView& k,
                            const HeadView& v, const HeadView& out, const Tensor& lse,
                            std::int64_t batch, const AttentionSpec& spec, HeadView& dq,
                            HeadView& dk, HeadView& dv) {
  using namespace attention_f32;
  Problem p = problem_of(q, k, v, out, lse, batch, spec);
  p.dout = as_heads(dout);
  p.dq = as_heads(dq);
  p.dk = as_heads(dk);
  p.dv = as_heads(dv);
  Tensor delta = Tensor::empty_like(lse);
  p.delta = delta.data<float>();
  launch(delta_kernel, "f32 attention delta", p, p.queries, p.heads, batch, 0);
  const int tiles = 2 * tile_packs(p.q.dims) + 2 * tile_packs(p.v.dims);
  dispatch_columns(p.q.dims, [&]<int kColumns>() {
    launch(query_gradient_kernel<kColumns>, "f32 attention dq", p, p.queries, p.heads, batch,
           tiles);
  });
  dispatch_columns(std::max(p.q.dims, p.v.dims), [&]<int kColumns>() {
    launch(key_gradient_kernel<kColumns>, "f32 attention dk and dv", p, p.keys,
           p.heads / p.heads_per_group, batch, tiles);
  });
}

}  // namespace polyhead::ops::kernel
