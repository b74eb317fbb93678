#include "layers/model.h"

namespace polyhead {
namespace {

ops::RopeTable make_rope(const ModelConfig& config, std::int64_t positions, DType dtype,
                         Device device) {
  if (!config.rotates()) return {};
  const RotaryFrequencies frequencies = rotary_frequencies(config);
  const ops::RopeTable table = ops::make_rope_table(
      frequencies.inverse_frequencies, frequencies.amplitude, positions, accumulation_dtype(dtype));
  return {table.cos.to(device), table.sin.to(device)};
}

}  // namespace

Model::Model(const ModelConfig& config, std::int64_t max_sequence_length, TensorParallel& parallel,
             DType dtype, Recompute recompute, Device device)
    : config_(config),
      max_sequence_length_(max_sequence_length),
      recompute_(recompute),
      rope_(make_rope(config, max_sequence_length, dtype, device)),
      embedding_(config, parallel),
      final_norm_("model.norm", config.hidden_size, config, parallel.rank(),
                  parallel.partial_between_regions()),
      output_loss_(config, config.tie_word_embeddings ? &embedding_.weight() : nullptr, parallel) {
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    blocks_.push_back(std::make_unique<TransformerBlock>(config, layer, parallel, dtype, device));
  }
}

std::vector<Parameter*> Model::parameters() {
  std::vector<Parameter*> parameters;
  embedding_.collect_parameters(parameters);
  for (const auto& block : blocks_) block->collect_parameters(parameters);
  final_norm_.collect_parameters(parameters);
  output_loss_.collect_parameters(parameters);
  return parameters;
}

SequenceBatch Model::sequences(std::int64_t tokens, std::int64_t batch,
                               const Tensor& document_start) const {
  POLYHEAD_CHECK(batch > 0 && tokens % batch == 0, "{} tokens in {} sequences", tokens, batch);
  const std::int64_t length = tokens / batch;
  POLYHEAD_CHECK(length <= max_sequence_length_, "sequences of {} tokens, made for {}", length,
                 max_sequence_length_);
  return {batch, length, document_start, rope_};
}

Tensor Model::forward(const Tensor& tokens, std::int64_t batch, Saved& saved,
                      const Tensor& document_start) const {
  saved.tokens = tokens;
  saved.sequences = sequences(tokens.numel(), batch, document_start);
  saved.blocks.clear();
  saved.blocks.resize(blocks_.size());
  ResidualStream stream{embedding_.forward(tokens, saved.sequences.length), {}};
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    stream = blocks_[layer]->forward(stream, saved.sequences, saved.blocks[layer]);
    saved.blocks[layer].drop(recompute_);
  }
  const Tensor normalized = final_norm_.forward(stream, saved.final_norm);
  saved.h = stream.x;
  return normalized;
}

Tensor Model::infer(const Tensor& tokens, std::int64_t batch, const Tensor& document_start,
                    const AttentionInputObserver& observe) const {
  const SequenceBatch sequence_batch = sequences(tokens.numel(), batch, document_start);
  ResidualStream stream{embedding_.forward(tokens, sequence_batch.length), {}};
  for (std::size_t layer = 0; layer < blocks_.size(); ++layer) {
    TransformerBlock::Saved saved;
    stream = blocks_[layer]->forward(stream, sequence_batch, saved);
    if (observe) observe(static_cast<std::int64_t>(layer), saved.attention_input);
  }
  Norm::Saved saved;
  return final_norm_.forward(stream, saved);
}

Tensor Model::attend(std::int64_t layer, const Tensor& x, std::int64_t batch) const {
  const Attention& attention = blocks_[static_cast<std::size_t>(layer)]->attention();
  const auto saved = attention.make_saved();
  ResidualStream stream;
  attention.forward(x, sequences(x.rows(), batch, {}), *saved, stream);
  return stream.branch;
}

void Model::backward(const Tensor& dh, Saved& saved, const GradientsFinal& on_final) {
  const auto tell_final = [&](auto& layer) {
    if (!on_final) return;
    std::vector<Parameter*> parameters;
    layer.collect_parameters(parameters);
    on_final(*parameters.front());
  };
  Tensor dx = Tensor::empty_like(dh);
  final_norm_.backward(dh, saved.h, saved.final_norm, {}, dx);
  saved.h = {};
  tell_final(final_norm_);
  for (std::size_t layer = blocks_.size(); layer-- > 0;) {
    dx = blocks_[layer]->backward(dx, saved.sequences, saved.blocks[layer]);
    tell_final(*blocks_[layer]);
  }
  embedding_.backward(dx, saved.tokens, saved.sequences.length);
}

}  // namespace polyhead
