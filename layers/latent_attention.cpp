#include "layers/latent_attention.h"

#include <utility>

#include "framework/ops/elementwise.h"
#include "framework/ops/latent_keys.h"

namespace polyhead {
namespace {

Initialization normal_initialization(const ModelConfig& config) {
  return {Initialization::Kind::kNormal, config.init_method_std};
}

Linear make_down(const std::string& prefix, const ModelConfig& config,
                 const TensorParallel& parallel) {
  std::vector<Parameter> weights, biases;
  const auto add_to = [&](std::vector<Parameter>& parameters, const std::string& name,
                          const Shape& shape, Initialization initialization) {
    parameters.push_back(
        replicated_parameter(prefix + name, shape, parallel.rank(), initialization));
    parameters.back().partial_over = parallel.partial_between_regions();
  };
  const auto add = [&](const std::string& name, std::int64_t rows) {
    add_to(weights, name + ".weight", {rows, config.hidden_size}, normal_initialization(config));
    if (!config.add_qkv_bias) return;
    add_to(biases, name + ".bias", {rows}, {Initialization::Kind::kZeros, 0});
  };
  if (config.q_lora_rank) add("q_a_proj", *config.q_lora_rank);
  add("kv_a_proj_with_mqa", *config.kv_lora_rank + *config.qk_pos_emb_head_dim);
  return Linear(std::move(weights), std::move(biases));
}

// A projection from a latent, whole on every rank, to this rank's heads.
Linear make_up(const std::string& name, std::int64_t head_rows, std::int64_t rank,
               const ModelConfig& config, const TensorParallel& parallel) {
  const std::int64_t rows = config.num_attention_heads * head_rows;
  const auto [begin, end] = even_share(rows, parallel.rank(), parallel.size());
  return Linear({sharded_parameter(name + ".weight", {rows, rank}, 0, begin, end,
                                   normal_initialization(config))});
}

Norm make_latent_norm(const std::string& name, std::int64_t rank, const ModelConfig& config,
                      const TensorParallel& parallel) {
  return Norm::rms(name, rank, ops::NormWeight::kPlain, config.latent_norm_epsilon(),
                   parallel.rank(), parallel.partial_between_regions());
}

}  // namespace

LatentAttention::LatentAttention(const std::string& prefix, const ModelConfig& config,
                                 ops::AttentionSpec spec, TensorParallel& parallel)
    : heads_(config.num_attention_heads / parallel.size()),
      q_rank_(config.q_lora_rank.value_or(0)),
      kv_rank_(*config.kv_lora_rank),
      nope_dim_(*config.qk_head_dim),
      rotary_dim_(*config.qk_pos_emb_head_dim),
      value_dim_(*config.v_head_dim),
      spec_(std::move(spec)),
      parallel_(parallel),
      down_(make_down(prefix, config, parallel)),
      kv_up_(make_up(prefix + "kv_b_proj", nope_dim_ + value_dim_, kv_rank_, config, parallel)),
      out_(make_row_parallel(prefix + "o_proj", config.hidden_size,
                             config.num_attention_heads * value_dim_, config.add_bias_linear,
                             output_initialization(config), parallel)) {
  const std::int64_t head_dim = nope_dim_ + rotary_dim_;
  if (config.normalizes_latents()) {
    if (q_rank_ > 0) {
      q_norm_ = make_latent_norm(prefix + "q_a_layernorm", q_rank_, config, parallel);
    }
    kv_norm_ = make_latent_norm(prefix + "kv_a_layernorm", kv_rank_, config, parallel);
  }
  if (q_rank_ > 0) {
    q_up_ = make_up(prefix + "q_b_proj", head_dim, q_rank_, config, parallel);
  } else {
    q_.emplace(make_column_parallel({prefix + "q_proj"}, {config.num_attention_heads * head_dim},
                                    config.hidden_size, config.add_qkv_bias,
                                    normal_initialization(config), parallel));
  }
}

ops::HeadView LatentAttention::key_heads(const Tensor& kv) const {
  return ops::head_dims(ops::heads_of(kv, heads_), 0, nope_dim_);
}

ops::HeadView LatentAttention::value_heads(const Tensor& kv) const {
  return ops::head_dims(ops::heads_of(kv, heads_), nope_dim_, nope_dim_ + value_dim_);
}

// Normalises the latents between the regions and gathers them: one collective for all three parts.
Tensor LatentAttention::normalize_latents(Saved& saved) const {
  if (!kv_norm_) return parallel_.enter(std::move(saved.down));
  Tensor latents = Tensor::empty_like(saved.down);
  if (q_norm_) {
    Tensor query = query_latent(latents);
    q_norm_->forward(query_latent(saved.down), query, saved.q_norm);
  }
  Tensor key_value = key_value_latent(latents);
  kv_norm_->forward(key_value_latent(saved.down), key_value, saved.kv_norm);
  shared_key(latents).copy_from(shared_key(saved.down));
  return parallel_.enter(latents);
}

// From the summed gradient of the latents down to x; every gradient below is complete.
Tensor LatentAttention::backward_latents(const Tensor& dlatents, const Tensor& x,
                                         const Saved& saved) {
  Tensor ddown = dlatents;
  if (q_norm_) {
    Tensor query = query_latent(ddown);
    q_norm_->backward(query, query_latent(saved.down), saved.q_norm, {}, query);
  }
  if (kv_norm_) {
    Tensor key_value = key_value_latent(ddown);
    kv_norm_->backward(key_value, key_value_latent(saved.down), saved.kv_norm, {}, key_value);
  }
  Tensor dx = Tensor::empty_like(x);
  down_.backward(ddown, x, dx);
  return dx;
}

void LatentAttention::expand_keys_and_values(const SequenceBatch& sequences, Saved& saved) const {
  saved.kv = kv_up_.forward(key_value_latent(saved.latents));
  saved.k = Tensor::empty_like(saved.kv, {saved.kv.rows(), heads_ * (nope_dim_ + rotary_dim_)});
  ops::HeadView k = ops::heads_of(saved.k, heads_);
  ops::latent_keys_forward(key_heads(saved.kv), shared_key(saved.latents), sequences.rope,
                           sequences.length, k);
}

void LatentAttention::rotate_queries(const SequenceBatch& sequences, ops::Rotation rotation,
                                     Tensor& q) const {
  ops::HeadView rotated =
      ops::head_dims(ops::heads_of(q, heads_), nope_dim_, nope_dim_ + rotary_dim_);
  ops::rope(sequences.rope, sequences.length, rotation, rotated);
}

void LatentAttention::forward(const Tensor& x, const SequenceBatch& sequences,
                              Attention::Saved& base, ResidualStream& stream) const {
  auto& saved = dynamic_cast<Saved&>(base);
  saved.down = down_.forward(x);
  saved.latents = normalize_latents(saved);
  saved.q = q_up_ ? q_up_->forward(query_latent(saved.latents)) : q_->forward(x);
  rotate_queries(sequences, ops::Rotation::kForward, saved.q);
  expand_keys_and_values(sequences, saved);

  ops::AttentionSpec spec = spec_;
  spec.document_start = sequences.document_start;
  saved.out = Tensor::empty_like(saved.q, {saved.q.rows(), heads_ * value_dim_});
  saved.lse = Tensor::empty_accumulator(saved.q, {sequences.batch, heads_, sequences.length});
  ops::HeadView out = ops::heads_of(saved.out, heads_);
  ops::attention_forward(ops::heads_of(saved.q, heads_), ops::heads_of(saved.k, heads_),
                         value_heads(saved.kv), sequences.batch, spec, out, saved.lse);
  out_.forward(saved.out, stream);
}

Tensor LatentAttention::backward(const Tensor& dy, const Tensor& x, const SequenceBatch& sequences,
                                 Attention::Saved& base) {
  auto& saved = dynamic_cast<Saved&>(base);
  if (!saved.k) expand_keys_and_values(sequences, saved);
  const Tensor dout = out_.backward(dy, saved.out);
  Tensor dq = Tensor::empty_like(saved.q), dk = Tensor::empty_like(saved.k);
  Tensor dkv = Tensor::empty_like(saved.kv);
  ops::AttentionSpec spec = spec_;
  spec.document_start = sequences.document_start;
  ops::HeadView dq_heads = ops::heads_of(dq, heads_), dk_heads = ops::heads_of(dk, heads_);
  ops::HeadView dv_heads = value_heads(dkv), dnope_heads = key_heads(dkv);
  ops::attention_backward(ops::heads_of(dout, heads_), ops::heads_of(saved.q, heads_),
                          ops::heads_of(saved.k, heads_), value_heads(saved.kv),
                          ops::heads_of(saved.out, heads_), saved.lse, sequences.batch, spec,
                          dq_heads, dk_heads, dv_heads);

  Tensor dlatents = Tensor::empty_like(saved.latents);
  Tensor dshared_key = shared_key(dlatents), dkey_value = key_value_latent(dlatents);
  ops::latent_keys_backward(dk_heads, sequences.rope, sequences.length, dnope_heads, dshared_key);
  kv_up_.backward(dkv, key_value_latent(saved.latents), dkey_value);
  rotate_queries(sequences, ops::Rotation::kBackward, dq);
  if (q_up_) {
    Tensor dquery = query_latent(dlatents);
    q_up_->backward(dq, query_latent(saved.latents), dquery);
  }
  Tensor dx = backward_latents(parallel_.leave(std::move(dlatents)), x, saved);
  if (q_) ops::add_to(q_->backward(dq, x), dx);
  saved = {};
  return dx;
}

void LatentAttention::collect_parameters(std::vector<Parameter*>& parameters) {
  down_.collect_parameters(parameters);
  if (q_norm_) q_norm_->collect_parameters(parameters);
  if (kv_norm_) kv_norm_->collect_parameters(parameters);
  if (q_up_) q_up_->collect_parameters(parameters);
  if (q_) q_->collect_parameters(parameters);
  kv_up_.collect_parameters(parameters);
  out_.collect_parameters(parameters);
}

}  // namespace polyhead
