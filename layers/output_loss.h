// The head and the cross-entropy as one layer: the full logits never exist.
//
// Tokens are taken in equal chunks of about 64 MiB of logits (1.75 GiB on CUDA, whose products need
// many rows to be fast, and for each chunk read and write the weight's gradient). Each rank holds a
// slice of the vocabulary; the ranks exchange three numbers per token (maximum, sum of
// exponentials, target's logit) in one all-gather a chunk, and dh is reduced once, not per chunk,
// beside the last product. FLOPs a token: 2 V D forward, 4 V D backward.
#pragma once

#include <optional>
#include <vector>

#include "framework/parameters/parameter.h"
#include "layers/model_config.h"
#include "layers/tensor_parallel.h"

namespace polyhead {

// How many of `tokens` the loss takes at once, where a rank's logits have `vocabulary` columns:
// chunks of one size, so that few shapes occur.
std::int64_t output_chunk_tokens(std::int64_t tokens, std::int64_t vocabulary, DType dtype,
                                 Device device);

class OutputLoss {
 public:
  // `tied` is the embedding's weight, or null: the head then has its own.
  OutputLoss(const ModelConfig& config, Parameter* tied, const TensorParallel& parallel);

  // h (N or N / P, D), targets (N) i32 with -1 where ignored. Adds to the head's gradient and
  // writes dh. loss (1) f64 += weight * sum of the tokens' losses, the same on all tensor-parallel
  // ranks; weight is 1 / (valid tokens of the whole global batch).
  void loss_and_gradient(const Tensor& h, const Tensor& targets, double weight, Tensor& loss,
                         Tensor& dh);
  // The loss of every token, (N), 0 where ignored.
  Tensor losses(const Tensor& h, const Tensor& targets) const;
  // A few rows h (n or n / P, D) -> the whole vocabulary's logits (n, V) on all ranks, soft-capped;
  // f32 (f64 where h is). Takes n V numbers twice over; one all-gather of them.
  Tensor logits(const Tensor& h) const;

  struct Predictions {
    Tensor losses;  // (N), as losses() gives them
    Tensor greedy;  // (N) i32 on the CPU: 1 where no token is likelier than the target, else 0
  };
  Predictions predictions(const Tensor& h, const Tensor& targets) const;

  // A model whose predictions are learnt beside the targets (framework/ops/distillation.h).
  struct Teacher {
    const OutputLoss& head;    // of the same vocabulary, on the same ranks
    const Tensor& h;           // (N or N / P, teacher's D), of the same tokens
    double temperature = 1.0;  // T of the divergence
    double share = 0.5;        // of the divergence; 1 - share of the cross-entropy
  };
  // The same for (1 - share) * cross-entropy + share * divergence. losses (2) f64 += weight * the
  // sums of the tokens' cross-entropies and of their divergences, either of them whole. Holds a
  // chunk of both models' logits at a time; 2 V D of the teacher more FLOPs a token.
  void loss_and_gradient(const Tensor& h, const Teacher& teacher, const Tensor& targets,
                         double weight, Tensor& losses, Tensor& dh);

  void collect_parameters(std::vector<Parameter*>& parameters);

 private:
  struct Chunk {
    Tensor logits;      // (n, V / P padded), soft-capped
    Tensor lse;         // (n)
    Tensor losses;      // (n)
    Tensor statistics;  // (P, n, 3), of all ranks; gradient_chunk: may be empty
  };
  const Parameter& head() const { return tied_ ? *tied_ : *own_; }
  Parameter& head() { return tied_ ? *tied_ : *own_; }
  std::int64_t chunk_tokens(std::int64_t tokens) const;
  Tensor capped_logits(const Tensor& h) const;  // (n, V / P padded)
  Chunk forward_chunk(const Tensor& h, const Tensor& targets) const;
  // With the gradient times weight in place of the logits.
  Chunk gradient_chunk(const Tensor& h, const Tensor& targets, double weight) const;

  const TensorParallel& parallel_;
  double softcap_;  // 0: none
  Parameter* tied_;
  std::optional<Parameter> own_;  // (V / P padded, D)
};

}  // namespace polyhead
