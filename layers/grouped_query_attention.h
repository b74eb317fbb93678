// Grouped-query attention (Ainslie et al. 2023): H query heads share G key and value heads. G = H
// is multi-head (Vaswani et al. 2017), G = 1 multi-query attention (Shazeer 2019).
//
// Tensor parallel by heads. With G >= P each rank has G / P groups; with G < P each group's key and
// value head lives on P / G neighbouring ranks, each of which sees only its own query heads: the
// gradients of k_proj and v_proj are then partial over those ranks.
// Forward: one all-reduce (reduce-scatter) of y. Backward: one of dx.
#pragma once

#include <optional>

#include "layers/attention.h"
#include "layers/linear.h"
#include "layers/norm.h"

namespace polyhead {

class GroupedQueryAttention final : public Attention {
 public:
  struct Saved final : Attention::Saved {
    Tensor qkv;                     // (N, (H + 2G) K / P): [q | k | v]; rotated unless qk_norm
    std::vector<Norm::Saved> norm;  // one each head of q, then of k; qk_norm only
    Tensor qk;   // (N, (H + G) K / P): normalised and rotated; qk_norm only; empty: remade from qkv
    Tensor out;  // (N, H V / P)
    Tensor lse;  // (B, H / P, T)

    // Remaking qk costs two passes over it, the norm and the rotation, and no matrix product.
    void drop_remakeable() override { qk = {}; }
  };

  GroupedQueryAttention(const std::string& prefix, const ModelConfig& config,
                        ops::AttentionSpec spec, TensorParallel& parallel);

  std::unique_ptr<Attention::Saved> make_saved() const override {
    return std::make_unique<Saved>();
  }
  void forward(const Tensor& x, const SequenceBatch& sequences, Attention::Saved& saved,
               ResidualStream& stream) const override;
  Tensor backward(const Tensor& dy, const Tensor& x, const SequenceBatch& sequences,
                  Attention::Saved& saved) override;
  void collect_parameters(std::vector<Parameter*>& parameters) override;

 private:
  // q, k and v as heads of a packed (N, (H + 2G) K / P) tensor.
  struct Heads {
    ops::HeadView q, k, v;
  };
  Heads heads_of_packed(const Tensor& packed) const;
  // The heads the op sees: those of qkv, with q and k from qk where they were normalised.
  Heads attention_inputs(const Saved& saved) const;
  // In place on the heads of q and k, which lead the columns of `packed`.
  void rotate(const SequenceBatch& sequences, const Tensor& packed) const;
  // Of one head of q, then of k.
  const Norm& norm_of(std::int64_t head) const { return head < heads_ ? *q_norm_ : *k_norm_; }
  Tensor columns_of(std::int64_t head, const Tensor& packed) const {
    return packed.column_slice(head * head_dim_, (head + 1) * head_dim_);
  }
  Tensor make_qk(const Saved& saved) const;
  void normalize_heads(Saved& saved) const;
  void remake_heads(const SequenceBatch& sequences, Saved& saved) const;
  void backward_normalize_heads(const Saved& saved, Tensor& dqkv);

  std::int64_t heads_;     // H / P
  std::int64_t groups_;    // max(G / P, 1)
  std::int64_t head_dim_;  // K = V
  ops::AttentionSpec spec_;
  ColumnParallelLinear qkv_;
  RowParallelLinear out_;
  std::optional<Norm> q_norm_, k_norm_;
};

}  // namespace polyhead
