// Token embeddings split by vocabulary rows, and learned positions.
//
// Each rank holds a contiguous slice of the vocabulary, padded to equal slices of a multiple of 8
// rows; padding rows stay zero. Forward: one all-reduce (reduce-scatter) of y. Backward: nothing
// (all-gather of dy).
#pragma once

#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "framework/parameters/parameter.h"
#include "layers/model_config.h"
#include "layers/tensor_parallel.h"

namespace polyhead {

// A (vocab_size, hidden_size) weight split by rows: the embedding's and the head's.
Parameter vocabulary_parameter(const std::string& name, const ModelConfig& config,
                               const TensorParallel& parallel);

class VocabParallelEmbedding {
 public:
  VocabParallelEmbedding(const ModelConfig& config, const TensorParallel& parallel);

  // ids (N) i32, N = batch * sequence_length -> (N or N / P, D)
  Tensor forward(const Tensor& ids, std::int64_t sequence_length) const;
  void backward(const Tensor& dy, const Tensor& ids, std::int64_t sequence_length);

  Parameter& weight() { return weight_; }
  void collect_parameters(std::vector<Parameter*>& parameters);

 private:
  // Positions of the tokens that this rank holds between the regions, (N or N / P) i32 on the
  // device. Made once for each shape: to send them again the host would wait for the device.
  const Tensor& positions(std::int64_t tokens, std::int64_t sequence_length) const;

  const TensorParallel& parallel_;
  Parameter weight_;                   // (V / P padded, D)
  std::optional<Parameter> position_;  // (max_position_embeddings, D), learned positions only
  mutable std::map<std::pair<std::int64_t, std::int64_t>, Tensor> positions_;  // by tokens, length
  double factor_;  // on token embeddings: 1, or sqrt(hidden_size)
};

}  // namespace polyhead
