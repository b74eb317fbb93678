// A checkpoint as a source of a model: what it is, before any weight is read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

#include "layers/model_config.h"

namespace polyhead {

struct ModelSource {
  std::filesystem::path folder;
  ModelConfig model;
  std::int64_t sequence_length = 0;   // of its training
  std::int64_t step = 0;              // that its training reached
  std::string tokenizer_fingerprint;  // empty: not known
};

// `path` names a checkpoint, or a run folder for its latest. Damage of the tensors is not looked
// for. Throws Error where there is no checkpoint. Not collective.
ModelSource open_model_source(const std::filesystem::path& path);

}  // namespace polyhead
