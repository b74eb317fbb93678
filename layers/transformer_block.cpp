#include "layers/transformer_block.h"

#include <fmt/format.h>

namespace polyhead {
namespace {

std::string prefix_of(std::int64_t layer) {
  return fmt::format("model.layers.{}.", layer);
}

Norm make_norm(const std::string& name, std::int64_t layer, const ModelConfig& config,
               const TensorParallel& parallel) {
  return {prefix_of(layer) + name, config.hidden_size, config, parallel.rank(),
          parallel.partial_between_regions()};
}

}  // namespace

void TransformerBlock::Saved::drop(Recompute recompute) {
  if (recompute == Recompute::kNone) return;
  if (recompute == Recompute::kFull) {
    Tensor input = x;
    *this = {};
    x = input;
    return;
  }
  attention_input = mlp_input = mlp.activated = {};
  attention->drop_remakeable();
}

// With post norms the names are Gemma 2's: post_attention_layernorm then follows the attention,
// where Llama uses the same name for the norm in front of the MLP.
TransformerBlock::TransformerBlock(const ModelConfig& config, std::int64_t layer,
                                   TensorParallel& parallel, DType dtype, Device device)
    : input_norm_(make_norm("input_layernorm", layer, config, parallel)),
      attention_(
          make_attention(prefix_of(layer) + "self_attn.", config, layer, parallel, dtype, device)),
      mlp_norm_(
          make_norm(config.post_norms ? "pre_feedforward_layernorm" : "post_attention_layernorm",
                    layer, config, parallel)),
      mlp_(prefix_of(layer) + "mlp.", config, parallel) {
  if (!config.post_norms) return;
  attention_post_norm_ = make_norm("post_attention_layernorm", layer, config, parallel);
  mlp_post_norm_ = make_norm("post_feedforward_layernorm", layer, config, parallel);
}

ResidualStream TransformerBlock::forward(ResidualStream stream, const SequenceBatch& sequences,
                                         Saved& saved) const {
  saved.attention_input = input_norm_.forward(stream, saved.input_norm);
  saved.x = stream.x;
  saved.attention = attention_->make_saved();
  if (attention_post_norm_) {
    ResidualStream apart;
    attention_->forward(saved.attention_input, sequences, *saved.attention, apart);
    saved.attention_output = apart.branch;
    stream.branch =
        attention_post_norm_->forward(saved.attention_output, saved.attention_post_norm);
  } else {
    attention_->forward(saved.attention_input, sequences, *saved.attention, stream);
  }

  saved.mlp_input = mlp_norm_.forward(stream, saved.mlp_norm);
  saved.h = stream.x;
  if (mlp_post_norm_) {
    ResidualStream apart;
    mlp_.forward(saved.mlp_input, saved.mlp, apart);
    saved.mlp_output = apart.branch;
    stream.branch = mlp_post_norm_->forward(saved.mlp_output, saved.mlp_post_norm);
  } else {
    mlp_.forward(saved.mlp_input, saved.mlp, stream);
  }
  return stream;
}

void TransformerBlock::remake(const SequenceBatch& sequences, Saved& saved) const {
  if (!saved.attention) {
    forward({saved.x, {}}, sequences, saved);
    return;
  }
  if (!saved.attention_input) {
    saved.attention_input = input_norm_.remake(saved.x, saved.input_norm);
  }
  if (!saved.mlp_input) saved.mlp_input = mlp_norm_.remake(saved.h, saved.mlp_norm);
}

Tensor TransformerBlock::backward(const Tensor& dy, const SequenceBatch& sequences, Saved& saved) {
  remake(sequences, saved);
  Tensor dmlp_output = dy;
  if (mlp_post_norm_) {
    dmlp_output = Tensor::empty_like(dy);
    mlp_post_norm_->backward(dy, saved.mlp_output, saved.mlp_post_norm, {}, dmlp_output);
  }
  Tensor dh = mlp_.backward(dmlp_output, saved.mlp_input, saved.mlp);
  mlp_norm_.backward(dh, saved.h, saved.mlp_norm, dy, dh);

  Tensor dattention_output = dh;
  if (attention_post_norm_) {
    dattention_output = Tensor::empty_like(dh);
    attention_post_norm_->backward(dh, saved.attention_output, saved.attention_post_norm, {},
                                   dattention_output);
  }
  Tensor dx =
      attention_->backward(dattention_output, saved.attention_input, sequences, *saved.attention);
  input_norm_.backward(dx, saved.x, saved.input_norm, dh, dx);
  saved = {};
  return dx;
}

void TransformerBlock::collect_parameters(std::vector<Parameter*>& parameters) {
  input_norm_.collect_parameters(parameters);
  attention_->collect_parameters(parameters);
  if (attention_post_norm_) attention_post_norm_->collect_parameters(parameters);
  mlp_norm_.collect_parameters(parameters);
  mlp_.collect_parameters(parameters);
  if (mlp_post_norm_) mlp_post_norm_->collect_parameters(parameters);
}

}  // namespace polyhead
