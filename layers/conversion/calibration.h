// What a model's attention reads of a text: the measure by which conversions weigh errors.
//
// A projection's error on the text is tr(dW C dW^T) with C = E[x x^T] of its input x. Where
// projections have biases, a bias is the weight of an input that is always 1.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "framework/tensor.h"
#include "layers/model.h"

namespace polyhead {

// Sequences of one length from a text, on the host.
struct CalibrationBatch {
  Tensor tokens;   // (N) i32
  Tensor targets;  // (N) i32: the tokens that follow
  std::int64_t sequences = 0;
};

// Sums over tokens of every layer's attention input, in f64 on the host: (hidden_size + 1)^2 x 8
// bytes a layer.
class AttentionInputs {
 public:
  AttentionInputs(std::int64_t num_layers, std::int64_t hidden_size);

  // x (N, D) on any device. N D^2 operations on the host.
  void add(std::int64_t layer, const Tensor& x);

  std::int64_t tokens(std::int64_t layer) const;  // that were added
  // C = E[x x^T], (D, D), not centred. The layer must have seen a token.
  Tensor covariance(std::int64_t layer) const;
  // The same for x with a 1 behind it, (D + 1, D + 1): the last row is E[x] and 1.
  Tensor covariance_with_one(std::int64_t layer) const;

 private:
  struct Layer {
    Tensor sums;  // (D + 1, D + 1) f64
    std::int64_t tokens = 0;
  };
  std::int64_t hidden_size_;
  std::vector<Layer> layers_;
};

// Runs the model, which must be on one rank, over the text.
AttentionInputs attention_inputs(const Model& model, Device device,
                                 std::span<const CalibrationBatch> text);

}  // namespace polyhead
