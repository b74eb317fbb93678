#include "layers/grouped_query_attention.h"

#include <utility>

namespace polyhead {
namespace {

// This rank's slice of k_proj or v_proj: whole groups, or one group shared with neighbours.
struct GroupShare {
  std::int64_t begin, end;  // groups
  int replicas;
};

GroupShare group_share(std::int64_t groups, const TensorParallel& parallel) {
  if (groups >= parallel.size()) {
    const auto [begin, end] = even_share(groups, parallel.rank(), parallel.size());
    return {begin, end, 1};
  }
  const int replicas = parallel.size() / static_cast<int>(groups);
  const std::int64_t group = parallel.rank() / replicas;
  return {group, group + 1, replicas};
}

ColumnParallelLinear make_qkv(const std::string& prefix, const ModelConfig& config,
                              TensorParallel& parallel) {
  const std::int64_t head_dim = config.head_dim();
  const Initialization normal{Initialization::Kind::kNormal, config.init_method_std};
  const Initialization zeros{Initialization::Kind::kZeros, 0};
  const bool bias = config.add_qkv_bias || config.add_bias_linear;
  std::vector<Parameter> weights, biases;
  const auto add = [&](const std::string& name, std::int64_t heads, std::int64_t begin,
                       std::int64_t end, int replicas) {
    const auto add_to = [&](std::vector<Parameter>& parameters, Parameter parameter) {
      if (replicas > 1) {
        parameter.partial_over = &parallel.replica_set(replicas);
        parameter.owner = parallel.rank() % replicas == 0;
      }
      parameters.push_back(std::move(parameter));
    };
    add_to(weights,
           sharded_parameter(prefix + name + ".weight", {heads * head_dim, config.hidden_size}, 0,
                             begin * head_dim, end * head_dim, normal));
    if (!bias) return;
    add_to(biases, sharded_parameter(prefix + name + ".bias", {heads * head_dim}, 0,
                                     begin * head_dim, end * head_dim, zeros));
  };
  const auto [begin, end] =
      even_share(config.num_attention_heads, parallel.rank(), parallel.size());
  const GroupShare share = group_share(config.groups(), parallel);
  add("q_proj", config.num_attention_heads, begin, end, 1);
  add("k_proj", config.groups(), share.begin, share.end, share.replicas);
  add("v_proj", config.groups(), share.begin, share.end, share.replicas);
  return {Linear(std::move(weights), std::move(biases)), parallel};
}

}  // namespace

GroupedQueryAttention::GroupedQueryAttention(const std::string& prefix, const ModelConfig& config,
                                             ops::AttentionSpec spec, TensorParallel& parallel)
    : heads_(config.num_attention_heads / parallel.size()),
      head_dim_(config.head_dim()),
      spec_(std::move(spec)),
      qkv_(make_qkv(prefix, config, parallel)),
      out_(make_row_parallel(prefix + "o_proj", config.hidden_size,
                             config.num_attention_heads * head_dim_, config.add_bias_linear,
                             output_initialization(config), parallel)) {
  const GroupShare share = group_share(config.groups(), parallel);
  groups_ = share.end - share.begin;
  if (!config.qk_norm) return;
  // Every rank normalises its own heads with the one weight, so its gradient is partial over all.
  const auto norm = [&](const std::string& name) {
    return Norm::rms(prefix + name, head_dim_, config.norm_weight, config.norm_epsilon,
                     parallel.rank(), &parallel.communicator());
  };
  q_norm_ = norm("q_norm");
  k_norm_ = norm("k_norm");
}

GroupedQueryAttention::Heads GroupedQueryAttention::heads_of_packed(const Tensor& packed) const {
  const std::int64_t q_end = heads_ * head_dim_, k_end = q_end + groups_ * head_dim_;
  return {ops::heads_of(packed.column_slice(0, q_end), heads_),
          ops::heads_of(packed.column_slice(q_end, k_end), groups_),
          ops::heads_of(packed.column_slice(k_end, k_end + groups_ * head_dim_), groups_)};
}

GroupedQueryAttention::Heads GroupedQueryAttention::attention_inputs(const Saved& saved) const {
  Heads heads = heads_of_packed(saved.qkv);
  if (q_norm_) {
    const std::int64_t q_end = heads_ * head_dim_;
    heads.q = ops::heads_of(saved.qk.column_slice(0, q_end), heads_);
    heads.k = ops::heads_of(saved.qk.column_slice(q_end, saved.qk.cols()), groups_);
  }
  return heads;
}

void GroupedQueryAttention::rotate(const SequenceBatch& sequences, const Tensor& packed) const {
  if (!sequences.rope.cos) return;
  const std::int64_t heads = heads_ + groups_;
  ops::HeadView q_and_k = ops::heads_of(packed.column_slice(0, heads * head_dim_), heads);
  ops::rope(sequences.rope, sequences.length, ops::Rotation::kForward, q_and_k);
}

Tensor GroupedQueryAttention::make_qk(const Saved& saved) const {
  return Tensor::empty_like(saved.qkv, {saved.qkv.rows(), (heads_ + groups_) * head_dim_});
}

void GroupedQueryAttention::normalize_heads(Saved& saved) const {
  saved.qk = make_qk(saved);
  saved.norm.resize(static_cast<std::size_t>(heads_ + groups_));
  for (std::int64_t head = 0; head < heads_ + groups_; ++head) {
    Tensor normalized = columns_of(head, saved.qk);
    norm_of(head).forward(columns_of(head, saved.qkv), normalized,
                          saved.norm[static_cast<std::size_t>(head)]);
  }
}

// The same qk as forward made, rotation included.
void GroupedQueryAttention::remake_heads(const SequenceBatch& sequences, Saved& saved) const {
  saved.qk = make_qk(saved);
  for (std::int64_t head = 0; head < heads_ + groups_; ++head) {
    Tensor normalized = columns_of(head, saved.qk);
    norm_of(head).remake(columns_of(head, saved.qkv), saved.norm[static_cast<std::size_t>(head)],
                         normalized);
  }
  rotate(sequences, saved.qk);
}

void GroupedQueryAttention::backward_normalize_heads(const Saved& saved, Tensor& dqkv) {
  for (std::int64_t head = 0; head < heads_ + groups_; ++head) {
    Tensor gradient = columns_of(head, dqkv);
    (head < heads_ ? q_norm_ : k_norm_)
        ->backward(gradient, columns_of(head, saved.qkv),
                   saved.norm[static_cast<std::size_t>(head)], {}, gradient);
  }
}

void GroupedQueryAttention::forward(const Tensor& x, const SequenceBatch& sequences,
                                    Attention::Saved& base, ResidualStream& stream) const {
  auto& saved = dynamic_cast<Saved&>(base);
  saved.qkv = qkv_.forward(x);
  if (q_norm_) normalize_heads(saved);
  rotate(sequences, q_norm_ ? saved.qk : saved.qkv);
  const Heads inputs = attention_inputs(saved);
  ops::AttentionSpec spec = spec_;
  spec.document_start = sequences.document_start;
  saved.out = Tensor::empty_like(saved.qkv, {saved.qkv.rows(), heads_ * head_dim_});
  saved.lse = Tensor::empty_accumulator(saved.qkv, {sequences.batch, heads_, sequences.length});
  ops::HeadView out = ops::heads_of(saved.out, heads_);
  ops::attention_forward(inputs.q, inputs.k, inputs.v, sequences.batch, spec, out, saved.lse);
  out_.forward(saved.out, stream);
}

Tensor GroupedQueryAttention::backward(const Tensor& dy, const Tensor& x,
                                       const SequenceBatch& sequences, Attention::Saved& base) {
  auto& saved = dynamic_cast<Saved&>(base);
  if (q_norm_ && !saved.qk) remake_heads(sequences, saved);
  const Tensor dout = out_.backward(dy, saved.out);
  const Heads inputs = attention_inputs(saved);
  Tensor dqkv = Tensor::empty_like(saved.qkv);
  Heads gradients = heads_of_packed(dqkv);
  ops::AttentionSpec spec = spec_;
  spec.document_start = sequences.document_start;
  spec.rotated_by = sequences.rope;
  ops::attention_backward(ops::heads_of(dout, heads_), inputs.q, inputs.k, inputs.v,
                          ops::heads_of(saved.out, heads_), saved.lse, sequences.batch, spec,
                          gradients.q, gradients.k, gradients.v);
  if (q_norm_) backward_normalize_heads(saved, dqkv);
  saved = {};
  return qkv_.backward(dqkv, x);
}

void GroupedQueryAttention::collect_parameters(std::vector<Parameter*>& parameters) {
  qkv_.collect_parameters(parameters);
  out_.collect_parameters(parameters);
  if (q_norm_) q_norm_->collect_parameters(parameters);
  if (k_norm_) k_norm_->collect_parameters(parameters);
}

}  // namespace polyhead
