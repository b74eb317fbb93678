#include "layers/embedding.h"

#include <algorithm>
#include <cmath>

#include "framework/ops/elementwise.h"
#include "framework/ops/embedding.h"

namespace polyhead {

Parameter vocabulary_parameter(const std::string& name, const ModelConfig& config,
                               const TensorParallel& parallel) {
  constexpr std::int64_t kRowMultiple = 8;
  const std::int64_t vocabulary = config.vocab_size.value();
  const std::int64_t unit = kRowMultiple * parallel.size();
  const std::int64_t rows = (vocabulary + unit - 1) / unit * kRowMultiple;
  const std::int64_t begin = std::min(vocabulary, rows * parallel.rank());
  const std::int64_t end = std::min(vocabulary, begin + rows);
  return sharded_parameter(name, {vocabulary, config.hidden_size}, 0, begin, end,
                           {Initialization::Kind::kNormal, config.init_method_std}, rows);
}

VocabParallelEmbedding::VocabParallelEmbedding(const ModelConfig& config,
                                               const TensorParallel& parallel)
    : parallel_(parallel),
      weight_(vocabulary_parameter("model.embed_tokens.weight", config, parallel)),
      factor_(config.scale_embeddings ? std::sqrt(static_cast<double>(config.hidden_size)) : 1.0) {
  if (config.position_embedding != PositionEmbedding::kLearned) return;
  position_ = replicated_parameter(
      "model.embed_positions.weight", {config.max_position_embeddings.value(), config.hidden_size},
      parallel.rank(), {Initialization::Kind::kNormal, config.init_method_std});
  position_->partial_over = parallel.partial_between_regions();
}

const Tensor& VocabParallelEmbedding::positions(std::int64_t tokens,
                                                std::int64_t sequence_length) const {
  Tensor& made = positions_[{tokens, sequence_length}];
  if (made) return made;
  const auto [begin, end] = parallel_.token_share(tokens);
  Tensor positions = Tensor::empty({end - begin}, DType::kI32);
  for (std::int64_t token = begin; token < end; ++token) {
    positions.data<std::int32_t>()[token - begin] =
        static_cast<std::int32_t>(token % sequence_length);
  }
  return made = positions.to(weight_.value.device());
}

Tensor VocabParallelEmbedding::forward(const Tensor& ids, std::int64_t sequence_length) const {
  Tensor partial = Tensor::empty_like(weight_.value, {ids.numel(), weight_.value.cols()});
  ops::embedding_forward(ids, weight_.value, weight_.shard_begin,
                         weight_.shard_end - weight_.shard_begin, factor_, partial);
  Tensor y = parallel_.leave(std::move(partial));
  if (position_) {
    Tensor at_positions = Tensor::empty_like(y);
    ops::embedding_forward(positions(ids.numel(), sequence_length), position_->value, 0,
                           position_->value.rows(), 1.0, at_positions);
    ops::add_to(at_positions, y);
  }
  return y;
}

void VocabParallelEmbedding::backward(const Tensor& dy, const Tensor& ids,
                                      std::int64_t sequence_length) {
  if (position_) {
    ops::embedding_backward(dy, positions(ids.numel(), sequence_length), 0, position_->value.rows(),
                            1.0, grad_to_add_to(*position_));
  }
  ops::embedding_backward(parallel_.enter(dy), ids, weight_.shard_begin,
                          weight_.shard_end - weight_.shard_begin, factor_,
                          grad_to_add_to(weight_));
}

void VocabParallelEmbedding::collect_parameters(std::vector<Parameter*>& parameters) {
  parameters.push_back(&weight_);
  if (position_) parameters.push_back(&*position_);
}

}  // namespace polyhead
