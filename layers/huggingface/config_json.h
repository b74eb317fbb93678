// config.json: tells transformers, vLLM and others which of their classes computes this model.
//
// Tensors are written where the class looks for them (tensor_layout.h), so a class either computes
// exactly this model or must not be named at all:
//   llama        RoPE, RMSNorm, SwiGLU; biases on all linear layers or on none
//   mistral      the same without biases, with a window on all layers; also where the hidden
//                size is no multiple of the heads, which the class of Llama refuses
//   ministral    the same with a window on some layers (transformers 4.57 and later)
//   qwen2        the same with biases on q, k and v, or with norms on q and k (qwen3), and a window
//                on all layers, none or some: the last ones, or any (layer_types, transformers 4.53
//                and later)
//   gpt2         multi-head attention, learned positions, LayerNorm, GELU, biases everywhere
//   gemma2       Gemma's norms, GeGLU, soft-caps, windows on every other layer
//   deepseek_v3  latent attention with dense layers
//   polyhead     everything else (ALiBi, LayerNorm, mixed forms): Polyhead's own keys
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "layers/huggingface/special_tokens.h"
#include "layers/model_config.h"

namespace polyhead {

// One of the names above.
std::string_view huggingface_model_type(const ModelConfig& config);

// The text of config.json for weights stored in a type. `sequence_length` stands in for the longest
// context where the configuration names none; vocab_size must be set. Special tokens that are none
// are null: an absent key would stand for the default of the class.
std::string huggingface_config_json(const ModelConfig& config, std::int64_t sequence_length,
                                    DType weights = DType::kF32, const SpecialTokens& tokens = {});

// The text of generation_config.json that transformers would derive from such a config.json.
std::string generation_config_json(const SpecialTokens& tokens);

}  // namespace polyhead
