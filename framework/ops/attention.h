// Scaled dot-product attention with grouped keys and values, tiled with an online softmax:
// memory O(T), never T x T (Rabe and Staats 2021; Dao et al. 2022).
//
// MHA, GQA, MQA, MLA, sliding windows, ALiBi and soft-caps are arguments of this one op. Query head
// h reads group h / (H / G) by index; K and V are never repeated in memory.
//
//   s_ij = scale q_i . k_j;  s_ij = cap tanh(s_ij / cap) if softcap;  s_ij -= slope_h |i - j|
//   out_i = sum_j softmax_j(s_ij) v_j   over the visible keys j
//
// Key j is visible to query i (absolute positions) if all hold:
//   causal:   j <= i
//   window W: j > i - W        (W counts the token itself; 0: no window)
//   documents: j >= document_start[i]
// A query that sees no key gives 0 with lse = -infinity, and no gradient.
//
// FLOPs: forward 2 (K + V) per visible (query, key, head); backward 2.5 times that with the
// recomputed scores. Blocks of keys that no query of a block sees are skipped.
#pragma once

#include "framework/ops/head_view.h"
#include "framework/ops/rope.h"
#include "framework/tensor.h"

namespace polyhead::ops {

struct AttentionSpec {
  double scale = 1.0;
  bool causal = true;
  std::int64_t window = 0;        // visible tokens including the query's own; 0: unlimited
  double softcap = 0.0;           // 0: none
  Tensor alibi_slopes;            // (H) of this rank's heads, or empty
  std::int64_t query_offset = 0;  // position of the first query when the first key's is 0
  Tensor document_start;          // (B * Tq) i32: first visible position, or empty
  // What turned q and k, each row by its place in its sequence, or empty: the backward then gives
  // dq and dk of before, the same bits as ops::rope of the gradients. Where a kernel of the
  // backward can do it on the way (CUDA, bf16, whole packs of 8 in half the rotated dimensions),
  // that spares a pass over both.
  RopeTable rotated_by;
};

// q (B*Tq, H, K), k (B*Tk, G, K), v (B*Tk, G, V), out (B*Tq, H, V) written, lse (B, H, Tq) written:
// the log of the softmax denominator, all the backward needs. lse and the slopes have the
// accumulation dtype of q (f32 for bf16).
void attention_forward(const HeadView& q, const HeadView& k, const HeadView& v, std::int64_t batch,
                       const AttentionSpec& spec, HeadView& out, Tensor& lse);

// dq, dk, dv written (dk and dv summed over the query heads of the group, in fixed order).
void attention_backward(const HeadView& dout, const HeadView& q, const HeadView& k,
                        const HeadView& v, const HeadView& out, const Tensor& lse,
                        std::int64_t batch, const AttentionSpec& spec, HeadView& dq, HeadView& dk,
                        HeadView& dv);

// Press et al. 2022: slope_h = 2^(-8 (h + 1) / H) where H is a power of two; otherwise those of the
// power p below, followed by every second one of 2 p. Returns (H); a rank slices its heads.
Tensor alibi_slopes(std::int64_t heads, DType dtype);

// Specialised per device; arguments are checked.
namespace kernel {
template <Device D>
void attention_forward(const HeadView& q, const HeadView& k, const HeadView& v, std::int64_t batch,
                       const AttentionSpec& spec, HeadView& out, Tensor& lse);
// Returns whether dq and dk have been turned back as spec.rotated_by asks; else they are to be.
template <Device D>
bool attention_backward(const HeadView& dout, const HeadView& q, const HeadView& k,
                        const HeadView& v, const HeadView& out, const Tensor& lse,
                        std::int64_t batch, const AttentionSpec& spec, HeadView& dq, HeadView& dk,
                        HeadView& dv);
}  // namespace kernel

}  // namespace polyhead::ops
