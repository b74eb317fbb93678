// The head and the cross-entropy as one layer: the full logits never exist.
//
// Tokens are taken in chunks of at most 64 MiB of logits. Each rank holds a slice of the
// vocabulary; the ranks exchange three numbers per token (maximum, sum of exponentials, target's
// logit) in one all-gather a chunk, and dh is reduced once, not per chunk. FLOPs a token: 2 V D
// forward, 4 V D backward.
#pragma once

#include <optional>
#include <vector>

#include "framework/parameters/parameter.h"
#include "layers/model_config.h"
#include "layers/tensor_parallel.h"

namespace polyhead {

class OutputLoss {
 public:
  // `tied` is the embedding's weight, or null: the head then has its own.
  OutputLoss(const ModelConfig& config, Parameter* tied, const TensorParallel& parallel);

  // h (N or N / P, D), targets (N) i32 with -1 where ignored. Adds to the head's gradient and
  // writes dh. Returns weight * sum of the tokens' losses, the same on all tensor-parallel ranks;
  // weight is 1 / (valid tokens of the whole global batch).
  double loss_and_gradient(const Tensor& h, const Tensor& targets, double weight, Tensor& dh);
  // The loss of every token, (N), 0 where ignored.
  Tensor losses(const Tensor& h, const Tensor& targets) const;

  void collect_parameters(std::vector<Parameter*>& parameters);

 private:
  struct Chunk {
    Tensor logits;  // (n, V / P padded), soft-capped
    Tensor lse;     // (n)
    Tensor losses;  // (n)
  };
  const Parameter& head() const { return tied_ ? *tied_ : *own_; }
  Parameter& head() { return tied_ ? *tied_ : *own_; }
  std::int64_t chunk_tokens() const;
  Chunk forward_chunk(const Tensor& h, const Tensor& targets) const;

  const TensorParallel& parallel_;
  double softcap_;  // 0: none
  Parameter* tied_;
  std::optional<Parameter> own_;  // (V / P padded, D)
};

}  // namespace polyhead
