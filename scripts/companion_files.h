// What lies beside a model's config.json and tensors.
#pragma once

#include <string>
#include <vector>

#include "scripts/model_source.h"

namespace polyhead {

inline constexpr const char* kGenerationConfig = "generation_config.json";

// The files of the source that belong to its model, whatever its attention is: the tokenizer's and
// generation_config.json, as far as there are any. Names in its folder.
std::vector<std::string> companion_files(const ModelSource& source);

}  // namespace polyhead
