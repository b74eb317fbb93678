// config.json: tells transformers, vLLM and others which of their classes computes this model.
//
// Tensors are written where the class looks for them (tensor_layout.h), so a class either computes
// exactly this model or must not be named at all:
//   llama        RoPE, RMSNorm, SwiGLU; biases on all linear layers or on none
//   mistral      the same without biases, with a window on all layers
//   qwen2        the same with biases on q, k and v; qwen3: with norms on q and k
//   gemma2       Gemma's norms, GeGLU, soft-caps, windows on every other layer
//   deepseek_v3  latent attention with dense layers
//   polyhead     everything else (ALiBi, LayerNorm, mixed forms): Polyhead's own keys
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "layers/model_config.h"

namespace polyhead {

// One of the names above.
std::string_view huggingface_model_type(const ModelConfig& config);

// The text of config.json for f32 weights. `sequence_length` stands in for the longest context
// where the configuration names none; vocab_size must be set.
std::string huggingface_config_json(const ModelConfig& config, std::int64_t sequence_length);

}  // namespace polyhead
