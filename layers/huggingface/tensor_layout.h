// How the classes of transformers keep a model's parameters in model.safetensors.
//
// Most keep them as Polyhead does. GPT-2 has names of its own, packs queries, keys and values, and
// stores matrices as (in, out). DeepSeek's latent attention rotates adjacent pairs of features,
// where Polyhead rotates feature j with feature j + d/2: the rows of the rotated part of each head
// lie in another order.
#pragma once

#include <filesystem>
#include <string_view>

#include "framework/checkpoint/tensor_layout.h"
#include "layers/model_config.h"

namespace polyhead {

// `rope_interleave`: the rotated features of latent attention lie in adjacent pairs.
TensorLayout huggingface_layout(const ModelConfig& config, std::string_view model_type,
                                bool rope_interleave);

// What Polyhead writes beside the config.json of huggingface_config_json.
TensorLayout written_layout(const ModelConfig& config);

// What the config.json of FOLDER, which holds such a model, says of the tensors beside it. Throws
// Error where it cannot be read.
TensorLayout stored_layout(const std::filesystem::path& folder, const ModelConfig& config);

}  // namespace polyhead
