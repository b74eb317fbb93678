// Changes a checkpoint's attention, folder to folder.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "framework/checkpoint/tensor_layout.h"
#include "framework/checkpoint/trainer_state.h"
#include "layers/conversion/attention_conversion.h"

namespace polyhead {

struct ConvertedDescription {
  std::string config;       // the resolved configuration after conversion, YAML
  std::string config_json;  // for other programs
  // Of model.safetensors, in the source and in the result.
  TensorLayout source_layout, layout;
  std::string method;  // for provenance: "GQA with 2 groups, mean"
  // Called with the folder once all its tensors are written; the result becomes conversion.json.
  std::function<std::string(const std::filesystem::path&)> report = {};
};

// Reads SOURCE, a checkpoint whose trainer.json is `state`, layer by layer, and writes DESTINATION,
// which must not exist and appears whole or not at all. The conversion sees the weights of every
// layer's attention first, then replaces what it wants to: the model's tensors as made from the f32
// masters (optimizer/master) where there are any, the masters, and the moments (optimizer/exp_avg,
// exp_avg_sq). Everything else is copied bit by bit; with a null conversion every tensor is. Step
// and samples go on from the source, which becomes the parent. Needs memory for one layer's
// attention, twice.
void convert_checkpoint(const std::filesystem::path& source, const TrainerState& state,
                        const std::filesystem::path& destination, AttentionConversion* conversion,
                        const ConvertedDescription& description);

}  // namespace polyhead
