#include "framework/ops/attention.h"

#include <bit>
#include <cmath>

#include "framework/dispatch.h"
#include "framework/profiler.h"

namespace polyhead::ops {
namespace {

// The CPU computes positions in the tensors' type; they must be exact in f32.
constexpr std::int64_t kMaxPosition = std::int64_t{1} << 24;

void check_heads(const char* name, const HeadView& view, std::int64_t rows, std::int64_t heads,
                 std::int64_t head_dim, const HeadView& q) {
  POLYHEAD_CHECK(view.columns.rows() == rows && view.heads == heads && view.head_dim == head_dim,
                 "{} is ({}, {}, {}), not ({}, {}, {})", name, view.columns.rows(), view.heads,
                 view.head_dim, rows, heads, head_dim);
  POLYHEAD_CHECK(
      heads > 0 && head_dim > 0 && (heads - 1) * view.head_stride + head_dim <= view.columns.cols(),
      "{}: {} heads of {}, {} apart, in {} columns", name, heads, head_dim, view.head_stride,
      view.columns.cols());
  POLYHEAD_CHECK(
      view.columns.dtype() == q.columns.dtype() && view.columns.device() == q.columns.device(),
      "{} is {} on {}, q is {} on {}", name, name_of(view.columns.dtype()),
      name_of(view.columns.device()), name_of(q.columns.dtype()), name_of(q.columns.device()));
}

void check_arguments(const HeadView& q, const HeadView& k, const HeadView& v, std::int64_t batch,
                     const AttentionSpec& spec, const HeadView& out, const Tensor& lse) {
  const std::int64_t rows_q = q.columns.rows(), rows_k = k.columns.rows();
  POLYHEAD_CHECK(
      batch > 0 && rows_q > 0 && rows_k > 0 && rows_q % batch == 0 && rows_k % batch == 0,
      "{} rows of q and {} of k for {} sequences", rows_q, rows_k, batch);
  POLYHEAD_CHECK(k.heads > 0 && q.heads % k.heads == 0, "{} query heads for {} groups", q.heads,
                 k.heads);
  check_heads("q", q, rows_q, q.heads, q.head_dim, q);
  check_heads("k", k, rows_k, k.heads, q.head_dim, q);
  check_heads("v", v, rows_k, k.heads, v.head_dim, q);
  check_heads("out", out, rows_q, q.heads, v.head_dim, q);
  POLYHEAD_CHECK(lse.shape() == Shape({batch, q.heads, rows_q / batch}) && lse.is_contiguous() &&
                     lse.dtype() == accumulation_dtype(q.columns.dtype()),
                 "lse {} {}", lse.shape().to_string(), name_of(lse.dtype()));
  POLYHEAD_CHECK(spec.window >= 0 && spec.softcap >= 0 && spec.query_offset >= 0,
                 "window {}, softcap {}, query_offset {}", spec.window, spec.softcap,
                 spec.query_offset);
  POLYHEAD_CHECK(
      spec.query_offset + rows_q / batch <= kMaxPosition && rows_k / batch <= kMaxPosition,
      "{} queries from position {} and {} keys", rows_q / batch, spec.query_offset, rows_k / batch);
  POLYHEAD_CHECK(!spec.alibi_slopes || (spec.alibi_slopes.shape() == Shape({q.heads}) &&
                                        spec.alibi_slopes.dtype() == lse.dtype()),
                 "alibi_slopes {} {}", spec.alibi_slopes.shape().to_string(),
                 name_of(spec.alibi_slopes.dtype()));
  POLYHEAD_CHECK(!spec.document_start || (spec.document_start.shape() == Shape({rows_q}) &&
                                          spec.document_start.dtype() == DType::kI32),
                 "document_start {} {}", spec.document_start.shape().to_string(),
                 name_of(spec.document_start.dtype()));
}

}  // namespace

void attention_forward(const HeadView& q, const HeadView& k, const HeadView& v, std::int64_t batch,
                       const AttentionSpec& spec, HeadView& out, Tensor& lse) {
  const ProfileScope scope(Work::kAttention);
  check_arguments(q, k, v, batch, spec, out, lse);
  dispatch(q.columns.device(),
           [&]<Device D>() { kernel::attention_forward<D>(q, k, v, batch, spec, out, lse); });
}

void attention_backward(const HeadView& dout, const HeadView& q, const HeadView& k,
                        const HeadView& v, const HeadView& out, const Tensor& lse,
                        std::int64_t batch, const AttentionSpec& spec, HeadView& dq, HeadView& dk,
                        HeadView& dv) {
  const ProfileScope scope(Work::kAttention);
  check_arguments(q, k, v, batch, spec, out, lse);
  check_heads("dout", dout, out.columns.rows(), out.heads, out.head_dim, q);
  check_heads("dq", dq, q.columns.rows(), q.heads, q.head_dim, q);
  check_heads("dk", dk, k.columns.rows(), k.heads, k.head_dim, q);
  check_heads("dv", dv, v.columns.rows(), v.heads, v.head_dim, q);
  const bool rotates = static_cast<bool>(spec.rotated_by.cos);
  const std::int64_t queries = q.columns.rows() / batch, keys = k.columns.rows() / batch;
  if (rotates) {
    check_rope(spec.rotated_by, queries, dq);
    check_rope(spec.rotated_by, keys, dk);
  }
  const bool rotated = dispatch(q.columns.device(), [&]<Device D>() {
    return kernel::attention_backward<D>(dout, q, k, v, out, lse, batch, spec, dq, dk, dv);
  });
  if (!rotates || rotated) return;
  rope(spec.rotated_by, queries, Rotation::kBackward, dq);
  rope(spec.rotated_by, keys, Rotation::kBackward, dk);
}

Tensor alibi_slopes(std::int64_t heads, DType dtype) {
  POLYHEAD_CHECK(heads > 0, "slopes for {} heads", heads);
  const auto power = static_cast<std::int64_t>(std::bit_floor(static_cast<std::uint64_t>(heads)));
  Tensor slopes = Tensor::empty({heads}, dtype);
  dispatch_cpu_float(dtype, [&]<class T>() {
    for (std::int64_t h = 0; h < heads; ++h) {
      const double exponent =
          h < power ? static_cast<double>(h + 1) / static_cast<double>(power)
                    : (static_cast<double>(h - power) + 0.5) / static_cast<double>(power);
      slopes.data<T>()[h] = static_cast<T>(std::exp2(-8.0 * exponent));
    }
  });
  return slopes;
}

}  // namespace polyhead::ops
