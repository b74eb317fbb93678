#include "framework/dispatch.h"
#include "framework/ops/attention_bf16.cuh"
#include "framework/ops/attention_bf16_instances.h"
#include "framework/ops/attention_f32_cuda.h"

namespace polyhead::ops::kernel {
namespace {

using attention_bf16::Arguments;
using attention_bf16::Heads;

Heads heads(const HeadView& view, bool& aligned) {
  const auto address = reinterpret_cast<std::uintptr_t>(view.columns.raw());
  aligned = aligned && address % 16 == 0 && view.columns.row_stride() % 8 == 0 &&
            view.head_stride % 8 == 0 && view.head_dim % 8 == 0;
  return {static_cast<attention_bf16::bf16*>(const_cast<void*>(view.columns.raw())),
          view.columns.row_stride(), view.head_stride, static_cast<int>(view.head_dim)};
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
  a.queries = static_cast<int>(q.columns.rows() / batch);
  a.keys = static_cast<int>(k.columns.rows() / batch);
  a.heads = static_cast<int>(q.heads);
  a.heads_per_group = static_cast<int>(q.heads / k.heads);
  a.scale = static_cast<float>(spec.scale);
  a.causal = spec.causal;
  a.window = static_cast<int>(spec.window);
  a.softcap = static_cast<float>(spec.softcap);
  if (spec.alibi_slopes) a.slopes = spec.alibi_slopes.data<float>();
  if (spec.document_start) a.document_start = spec.document_start.data<std::int32_t>();
  a.query_offset = static_cast<int>(spec.query_offset);
  return a;
}

bool has_extras(const Arguments& a) {
  return a.softcap > 0 || a.slopes != nullptr || a.document_start != nullptr;
}

// Calls `run` with the functions of the smallest compiled pair that holds the head dimensions.
template <class Run>
void choose_instance(std::int64_t qk_dim, std::int64_t v_dim, Run&& run) {
  using namespace attention_bf16;
  const std::int64_t dim = std::max(qk_dim, v_dim);
  if (dim <= 64) return run(d64_forward, d64_backward);
  if (dim <= 96) return run(d96_forward, d96_backward);
  if (dim <= 128) return run(d128_forward, d128_backward);
  if (qk_dim <= 192 && v_dim <= 128) return run(d192_v128_forward, d192_v128_backward);
  POLYHEAD_CHECK(dim <= 256, "attention with head dimensions {} and {}", qk_dim, v_dim);
  run(d256_forward, d256_backward);
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
  choose_instance(q.head_dim, v.head_dim, [&](auto* forward, auto*) {
    forward(a, static_cast<int>(batch), has_extras(a));
  });
}

template <>
void attention_backward<Device::kCuda>(const HeadView& dout, const HeadView& q, const HeadView& k,
                                       const HeadView& v, const HeadView& out, const Tensor& lse,
                                       std::int64_t batch, const AttentionSpec& spec, HeadView& dq,
                                       HeadView& dk, HeadView& dv) {
  if (q.columns.dtype() == DType::kF32) {
    return attention_backward_f32(dout, q, k, v, out, lse, batch, spec, dq, dk, dv);
  }
  Arguments a = arguments(q, k, v, out, lse, batch, spec);
  a.dout = heads(dout, a.aligned);
  a.dq = heads(dq, a.aligned);
  a.dk = heads(dk, a.aligned);
  a.dv = heads(dv, a.aligned);
  Tensor delta = Tensor::empty_like(lse);
  a.delta = delta.data<float>();
  choose_instance(q.head_dim, v.head_dim, [&](auto*, auto* backward) {
    backward(a, static_cast<int>(batch), has_extras(a));
  });
}

}  // namespace polyhead::ops::kernel
