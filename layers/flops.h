// Model FLOPs of a training step, for TFLOP/s and MFU. Recomputation is never counted.
#pragma once

#include "layers/model_config.h"

namespace polyhead {

// Forward and backward, per token: 6 (parameters that take part in a matrix product, a tied head
// once) + sum over layers of 6 H (K + V) a, where a is the mean number of keys that a query sees:
// (T + 1) / 2 causal, the mean of min(i + 1, W) with a window W.
double training_flops_per_token(const ModelConfig& config, std::int64_t sequence_length);

// Parameters that take part in a matrix product: all matrices but the embedding, which is looked
// up; a tied embedding counts as the head it is.
std::int64_t matmul_parameters(const ModelConfig& config);

}  // namespace polyhead
