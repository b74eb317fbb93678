#include <algorithm>
#include <cstdlib>

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/cuda/packs.cuh"
#include "framework/dispatch.h"
#include "framework/ops/attention_bf16.cuh"
#include "framework/ops/attention_bf16_instances.h"
#include "framework/ops/attention_f32_cuda.h"

namespace polyhead::ops::kernel {
namespace {

using attention_bf16::Angles;
using attention_bf16::Arguments;
using attention_bf16::bf16;
using attention_bf16::Heads;
using attention_bf16::kRowBlock;
using cuda::Divider;

Heads heads(const HeadView& view, bool& aligned) {
  const auto address = reinterpret_cast<std::uintptr_t>(view.columns.raw());
  aligned = aligned && address % 16 == 0 && view.columns.row_stride() % 8 == 0 &&
            view.head_stride % 8 == 0 && view.head_dim % 8 == 0;
  return {static_cast<bf16*>(const_cast<void*>(view.columns.raw())), view.columns.row_stride(),
          view.head_stride, static_cast<int>(view.head_dim)};
}

int at_most_unlimited(std::int64_t reach) {
  return static_cast<int>(std::min<std::int64_t>(reach, attention_bf16::kUnlimited));
}

Arguments arguments(const HeadView& q, const HeadView& k, const HeadView& v, const HeadView& out,
                    const Tensor& lse, std::int64_t batch, const AttentionSpec& spec) {
  Arguments a{};
  a.aligned = true;
  a.q = heads(q, a.aligned);
  a.k = heads(k, a.aligned);
  a.v = heads(v, a.aligned);
  a.out = heads(out, a.aligned);
  a.lse = const_cast<float*>(lse.data<float>());
  a.batch = static_cast<int>(batch);
  a.queries = static_cast<int>(q.columns.rows() / batch);
  a.keys = static_cast<int>(k.columns.rows() / batch);
  a.heads = static_cast<int>(q.heads);
  a.heads_per_group = static_cast<int>(q.heads / k.heads);
  a.scale = static_cast<float>(spec.scale);
  a.reach_back = spec.window > 0 ? at_most_unlimited(spec.window) : attention_bf16::kUnlimited;
  a.reach_ahead = spec.causal ? 1 : attention_bf16::kUnlimited;
  a.softcap = static_cast<float>(spec.softcap);
  if (spec.alibi_slopes) a.slopes = spec.alibi_slopes.data<float>();
  if (spec.document_start) a.document_start = spec.document_start.data<std::int32_t>();
  a.query_offset = static_cast<int>(spec.query_offset);
  return a;
}

// None where half the rotated dimensions are no whole number of packs.
Angles angles_in_packs(const RopeTable& table) {
  if (!table.cos || !cuda::is_whole_packs<bf16>(table.cos.cols())) return {};
  return {table.cos.data<float>(), table.sin.data<float>(), static_cast<int>(table.cos.cols())};
}

// Hopper's own kernels were compiled and the device runs them. POLYHEAD_PORTABLE_ATTENTION in the
// environment asks for those of sm_80 there too, for tests and comparisons.
bool uses_hopper_kernels() {
  static const bool uses = POLYHEAD_HOPPER != 0 &&
                           cuda::Context::instance().compute_capability() == 90 &&
                           std::getenv("POLYHEAD_PORTABLE_ATTENTION") == nullptr;
  return uses;
}

// The common path takes the largest score before it scales.
bool is_general(const Arguments& a) {
  return a.softcap > 0 || a.slopes != nullptr || a.document_start != nullptr || !(a.scale > 0) ||
         !a.aligned;
}

// Calls `run` with functions of Arguments, for the smallest compiled pair that holds the head
// dimensions.
template <class Run>
void choose_instance(const Arguments& a, Run&& run) {
  using namespace attention_bf16;
  const HeadDims dims = compiled_dims(a.q.dim, a.v.dim);
  const bool general = is_general(a);
  if (uses_hopper_kernels() && !general) {
    if (dims == HeadDims{64, 64}) return run(hopper_d64_forward, hopper_d64_backward);
    if (dims == HeadDims{128, 128}) return run(hopper_d128_forward, hopper_d128_backward);
    if (dims == HeadDims{192, 128}) {
      return run(hopper_d192_v128_forward, hopper_d192_v128_backward);
    }
  }
  const auto run_portable = [&](auto* forward, auto* backward) {
    run([=](const Arguments& arguments) { forward(arguments, general); },
        [=](const Arguments& arguments) { backward(arguments, general); });
  };
  if (dims == HeadDims{64, 64}) return run_portable(d64_forward, d64_backward);
  if (dims == HeadDims{96, 96}) return run_portable(d96_forward, d96_backward);
  if (dims == HeadDims{128, 128}) return run_portable(d128_forward, d128_backward);
  if (dims == HeadDims{192, 128}) return run_portable(d192_v128_forward, d192_v128_backward);
  run_portable(d256_forward, d256_backward);
}

// Eight lanes a row and head, also for the rows that fill up the last block.
constexpr int kStatisticsThreads = 256, kStatisticsLanes = 8;
constexpr int kStatisticsBlocks = 8;  // on a multiprocessor, for each thread reads little

__device__ __forceinline__ float dot(uint4 x, uint4 y) {
  const std::uint32_t a[4] = {x.x, x.y, x.z, x.w}, b[4] = {y.x, y.y, y.z, y.w};
  float sum = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    sum += __uint_as_float(a[i] << 16) * __uint_as_float(b[i] << 16);
    sum += __uint_as_float(a[i] & 0xffff0000u) * __uint_as_float(b[i] & 0xffff0000u);
  }
  return sum;
}

__global__ void __launch_bounds__(kStatisticsThreads, kStatisticsBlocks)
    row_statistics_kernel(const __grid_constant__ Arguments a, const Divider by_heads,
                          const Divider by_padded_queries) {
  cuda::wait_for_work_before();
  const int lane = static_cast<int>(threadIdx.x) % kStatisticsLanes;
  // The last rows first: the product that made dout has left those in the L2 cache.
  const std::int64_t block = gridDim.x - 1 - blockIdx.x;
  const std::int64_t index = (block * kStatisticsThreads + threadIdx.x) / kStatisticsLanes;
  const auto [padded_row, column] = by_heads(index);
  const auto [batch, query] = by_padded_queries(padded_row);
  const int head = static_cast<int>(column);
  const std::int64_t head_column = batch * a.heads + head;
  const bool exists = batch < a.batch && query < a.queries;
  float delta = 0, lse = -attention_bf16::kInfinity;
  if (exists) {
    if (lane == 0) lse = a.lse[head_column * a.queries + query];
    const std::int64_t row = batch * a.queries + query;
    const bf16* const out = a.out.at(row, head);
    const bf16* const dout = a.dout.at(row, head);
    if (a.aligned) {
#pragma unroll 1
      for (int d = 8 * lane; d < a.out.dim; d += 8 * kStatisticsLanes) {
        delta += dot(*reinterpret_cast<const uint4*>(out + d),
                     *reinterpret_cast<const uint4*>(dout + d));
      }
    } else {
#pragma unroll 1
      for (int d = lane; d < a.out.dim; d += kStatisticsLanes) {
        delta += __bfloat162float(out[d]) * __bfloat162float(dout[d]);
      }
    }
  }
#pragma unroll
  for (int distance = kStatisticsLanes / 2; distance > 0; distance /= 2) {
    delta += __shfl_xor_sync(0xffffffffu, delta, distance);
  }
  if (lane != 0 || batch >= a.batch) return;
  const std::int64_t to = head_column * a.padded_queries + query;
  a.row_lse[to] =
      lse == -attention_bf16::kInfinity ? attention_bf16::kInfinity : lse * attention_bf16::kLog2E;
  a.row_delta[to] = delta;
}

}  // namespace

template <>
void attention_forward<Device::kCuda>(const HeadView& q, const HeadView& k, const HeadView& v,
                                      std::int64_t batch, const AttentionSpec& spec, HeadView& out,
                                      Tensor& lse) {
  if (q.columns.dtype() == DType::kF32) {
    return attention_forward_f32(q, k, v, batch, spec, out, lse);
  }
  const Arguments a = arguments(q, k, v, out, lse, batch, spec);
  choose_instance(a, [&](const auto& forward, const auto&) { forward(a); });
}

template <>
bool attention_backward<Device::kCuda>(const HeadView& dout, const HeadView& q, const HeadView& k,
                                       const HeadView& v, const HeadView& out, const Tensor& lse,
                                       std::int64_t batch, const AttentionSpec& spec, HeadView& dq,
                                       HeadView& dk, HeadView& dv) {
  if (q.columns.dtype() == DType::kF32) {
    attention_backward_f32(dout, q, k, v, out, lse, batch, spec, dq, dk, dv);
    return false;
  }
  Arguments a = arguments(q, k, v, out, lse, batch, spec);
  a.dout = heads(dout, a.aligned);
  a.dq = heads(dq, a.aligned);
  a.dk = heads(dk, a.aligned);
  a.dv = heads(dv, a.aligned);
  a.angles = angles_in_packs(spec.rotated_by);
  a.padded_queries = (a.queries + kRowBlock - 1) / kRowBlock * kRowBlock;
  Tensor statistics =
      Tensor::empty({2, batch, q.heads, a.padded_queries}, DType::kF32, Device::kCuda);
  a.row_lse = statistics.data<float>();
  a.row_delta = a.row_lse + statistics.numel() / 2;

  const std::int64_t threads = batch * q.heads * a.padded_queries * kStatisticsLanes;
  const std::int64_t blocks = (threads + kStatisticsThreads - 1) / kStatisticsThreads;
  cuda::launch("attention backward, row statistics", row_statistics_kernel,
               static_cast<unsigned>(blocks), kStatisticsThreads, 0, a, Divider(a.heads),
               Divider(a.padded_queries));
  choose_instance(a, [&](const auto&, const auto& backward) { backward(a); });
  return a.angles.half > 0;
}

}  // namespace polyhead::ops::kernel
