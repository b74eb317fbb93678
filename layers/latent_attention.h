// Multi-head latent attention (DeepSeek-V2, 2024): queries, keys and values come from small
// latents; a cache would hold the key-value latent and one rotated key per token, whatever the
// heads.
//
//   [c_q | c | k_pe] = x [W_DQ; W_DKV]^T, the latents normalised      (x's rows between regions)
//                      unless latent_norm is false
//   q_h = [q_nope | rope(q_pe)] = W_UQ c_q        without q_lora_rank: q_h = W_Q x
//   [k_nope_h | v_h] = W_UKV c;   k_h = [k_nope_h | rope(k_pe)]       (this rank's heads)
//
// Tensor parallel by heads: the down-projections and their norms are replicated, the up-projections
// sharded. Every rank's heads add to the gradient of the latents *and of the shared rotated key*;
// [dc_q | dc | dk_pe] is summed over the ranks in one collective, so what lies below is complete.
// Forward: all-gather of the latents with sequence parallelism; one all-reduce (reduce-scatter) of
// y. Backward: one all-reduce (reduce-scatter) of the latents' gradients; without q_lora_rank one
// more, of dx through W_Q.
#pragma once

#include <optional>

#include "layers/attention.h"
#include "layers/linear.h"
#include "layers/norm.h"

namespace polyhead {

class LatentAttention final : public Attention {
 public:
  struct Saved final : Attention::Saved {
    Tensor
        down;  // (N or N / P, R_q + R + K_r): [c_q | c | k_pe] before the norms, if there are any
    Norm::Saved q_norm, kv_norm;
    Tensor latents;  // (N, R_q + R + K_r): normalised, the key's part not yet rotated
    Tensor q;        // (N, H K / P), rotated
    Tensor kv;       // (N, H (K_n + V) / P): [k_nope | v] per head; empty: remade from latents
    Tensor k;        // (N, H K / P); empty: remade
    Tensor out;      // (N, H V / P)
    Tensor lse;      // (B, H / P, T)

    void drop_remakeable() override { kv = k = {}; }
  };

  LatentAttention(const std::string& prefix, const ModelConfig& config, ops::AttentionSpec spec,
                  TensorParallel& parallel);

  std::unique_ptr<Attention::Saved> make_saved() const override {
    return std::make_unique<Saved>();
  }
  void forward(const Tensor& x, const SequenceBatch& sequences, Attention::Saved& saved,
               ResidualStream& stream) const override;
  Tensor backward(const Tensor& dy, const Tensor& x, const SequenceBatch& sequences,
                  Attention::Saved& saved) override;
  void collect_parameters(std::vector<Parameter*>& parameters) override;

 private:
  // Column slices of a packed [c_q | c | k_pe] tensor.
  Tensor query_latent(const Tensor& packed) const { return packed.column_slice(0, q_rank_); }
  Tensor key_value_latent(const Tensor& packed) const {
    return packed.column_slice(q_rank_, q_rank_ + kv_rank_);
  }
  Tensor shared_key(const Tensor& packed) const {
    return packed.column_slice(q_rank_ + kv_rank_, q_rank_ + kv_rank_ + rotary_dim_);
  }
  // Heads of the packed [k_nope | v] projection.
  ops::HeadView key_heads(const Tensor& kv) const;
  ops::HeadView value_heads(const Tensor& kv) const;

  Tensor normalize_latents(Saved& saved) const;
  Tensor backward_latents(const Tensor& dlatents, const Tensor& x, const Saved& saved);
  void expand_keys_and_values(const SequenceBatch& sequences, Saved& saved) const;
  void rotate_queries(const SequenceBatch& sequences, ops::Rotation rotation, Tensor& q) const;

  std::int64_t heads_;       // H / P
  std::int64_t q_rank_;      // R_q; 0 without query compression
  std::int64_t kv_rank_;     // R
  std::int64_t nope_dim_;    // K_n
  std::int64_t rotary_dim_;  // K_r; K = K_n + K_r
  std::int64_t value_dim_;   // V
  ops::AttentionSpec spec_;
  const TensorParallel& parallel_;
  Linear down_;                            // W_DQ and W_DKV, replicated
  std::optional<Norm> q_norm_;             // with query compression and latent_norm
  std::optional<Norm> kv_norm_;            // with latent_norm
  std::optional<Linear> q_up_;             // W_UQ; with query compression
  std::optional<ColumnParallelLinear> q_;  // W_Q; without
  Linear kv_up_;                           // W_UKV
  RowParallelLinear out_;
};

}  // namespace polyhead
