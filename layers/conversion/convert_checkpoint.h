// Turns a checkpoint's attention into one with fewer groups, folder to folder.
#pragma once

#include <filesystem>
#include <string>

#include "framework/checkpoint/tensor_layout.h"
#include "framework/checkpoint/trainer_state.h"
#include "layers/conversion/grouped_query.h"

namespace polyhead {

struct ConvertedDescription {
  std::string config;       // the resolved configuration after conversion, YAML
  std::string config_json;  // for other programs
  // Of model.safetensors, in the source and in the result.
  TensorLayout source_layout, layout;
  std::string method;  // for provenance: "GQA with 2 groups, mean"
};

// Reads SOURCE, a checkpoint whose trainer.json is `state`, tensor by tensor, and writes
// DESTINATION, which must not exist and appears whole or not at all. Keys and values are pooled,
// the model's from the f32 masters (optimizer/master) where there are any; their moments
// (optimizer/exp_avg, exp_avg_sq) become zero; everything else is copied bit by bit. Step and
// samples go on from the source, which becomes the parent. Needs memory for one tensor.
void convert_checkpoint(const std::filesystem::path& source, const TrainerState& state,
                        const std::filesystem::path& destination, const KeyValuePooling& pooling,
                        const ConvertedDescription& description);

}  // namespace polyhead
