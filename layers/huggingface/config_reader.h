// config.json of a model folder -> ModelConfig, in the words of transformers 4 and 5.
//
// The families are llama, mistral, ministral, qwen2, qwen3, gemma2, gpt2, deepseek_v2 and
// deepseek_v3, and polyhead, which is Polyhead's own. What makes a key safe to read past:
//   - It is null, which in these files means that it is not used.
//   - It is on a list, common or of the family, of keys that cannot change what the model computes:
//     tokens of the tokenizer, settings of generation, names, the type that weights are stored in,
//     and of DeepSeek the settings of experts, once no layer has any.
//   - It begins with an underscore: transformers' own notes.
// Everything else is either read or refused by its name: a key that Polyhead does not know, a value
// that asks for what it does not compute (experts, another rotation or activation, biases
// on some projections). A key that is absent stands for the default of the family's class, but the
// model's sizes must be there.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "framework/checkpoint/tensor_layout.h"
#include "layers/model_config.h"

namespace polyhead {

struct HuggingFaceModel {
  std::string model_type;
  ModelConfig config;   // knows its vocab_size; has passed model_rule_violations for one rank
  TensorLayout layout;  // of model.safetensors
  // Which key asks for dropout, which does nothing but in training: why this model is not trained.
  // Empty: none.
  std::string dropout;
};

// Throws Error, naming `source`, the key, its value and the fix.
HuggingFaceModel parse_huggingface_config(std::string_view text, const std::string& source);

// Reads FOLDER/config.json.
HuggingFaceModel read_huggingface_model(const std::filesystem::path& folder);

// What the tensors beside a config.json depend on that the model does not.
struct StoredFormat {
  std::string model_type;
  bool rope_interleave = false;  // of latent attention: adjacent features rotate together
};
StoredFormat read_stored_format(const std::filesystem::path& folder);

}  // namespace polyhead
