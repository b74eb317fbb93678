// How far a converted model is from the one it came from, on a text.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "layers/conversion/calibration.h"
#include "layers/model.h"

namespace polyhead {

struct ModelFidelity {
  std::int64_t tokens = 0;
  // ||child(x) - parent(x)|| / ||parent(x)|| of each layer's attention over all tokens, both given
  // the input x that it has in the parent: no error of one layer enters another's.
  std::vector<double> attention_errors;
  double divergence = 0;  // mean Kullback-Leibler divergence of the child's next token from the
                          // parent's, nats a token
  double parent_perplexity = 0;
  double child_perplexity = 0;
};

// Both models on one rank and on `device`, of one vocabulary and as many layers. Twice the time of
// running both, and the vocabulary's softmax on the host.
ModelFidelity model_fidelity(const Model& parent, const Model& child, Device device,
                             std::span<const CalibrationBatch> text);

}  // namespace polyhead
