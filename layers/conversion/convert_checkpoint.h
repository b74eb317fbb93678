// Changes a checkpoint's attention, folder to folder.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "framework/checkpoint/tensor_layout.h"
#include "framework/checkpoint/trainer_state.h"
#include "layers/conversion/attention_conversion.h"

namespace polyhead {

inline constexpr const char* kConversionReport = "conversion.json";

// A checkpoint, or a model folder of another program.
struct ConversionSource {
  std::filesystem::path folder;
  TensorLayout layout;                  // of model.safetensors
  std::vector<std::string> companions;  // files to copy: the tokenizer's, generation_config.json
  std::optional<TrainerState> trainer;  // of a checkpoint: its trainer.json
};

struct ConvertedDescription {
  std::string config;       // a checkpoint's resolved configuration after conversion, YAML
  std::string config_json;  // for other programs
  TensorLayout layout;      // of model.safetensors
  std::string method;       // for provenance: "GQA with 2 groups, mean"
  // Called with the folder once all its tensors are written; the result becomes conversion.json.
  std::function<std::string(const std::filesystem::path&)> report = {};
};

// Reads SOURCE layer by layer and writes DESTINATION, which must not exist and appears whole or not
// at all: a checkpoint where the source is one. The conversion sees the weights of every layer's
// attention first, then replaces what it wants to: the model's tensors as made from the f32 masters
// (optimizer/master) where there are any, the masters, and the moments (optimizer/exp_avg,
// exp_avg_sq). The bits of all other tensors stay; with a null conversion all do. A checkpoint's
// step and samples go on from the source, which becomes the parent. Needs memory for one layer's
// attention, twice.
void convert_checkpoint(const ConversionSource& source, const std::filesystem::path& destination,
                        AttentionConversion* conversion, const ConvertedDescription& description);

}  // namespace polyhead
