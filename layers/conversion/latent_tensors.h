// From the named tensors of one layer's attention and back.
#pragma once

#include "layers/conversion/attention_conversion.h"
#include "layers/conversion/latent_layer.h"

namespace polyhead {

// q_proj, k_proj and v_proj, each with its bias as last column if it has one; f64 whatever the
// tensors' dtype. Throws Error, naming it in full, where a weight is missing.
GroupedLayer grouped_layer(std::int64_t layer, const AttentionTensors& tensors);

// q_proj, or q_a_proj, q_a_layernorm and q_b_proj; kv_a_proj_with_mqa, kv_a_layernorm and
// kv_b_proj, as `config` says: with norms of weight one if it has latent_norm, with the last
// columns of q_proj and kv_a_proj_with_mqa as biases if add_qkv_bias. Rounded to `dtype`.
AttentionTensors named_tensors(const LatentLayer& layer, const ModelConfig& config, DType dtype);

}  // namespace polyhead
