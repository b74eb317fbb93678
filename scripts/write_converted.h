// The folder that polyhead convert leaves.
#pragma once

#include <filesystem>
#include <functional>
#include <string>

#include "layers/conversion/attention_conversion.h"
#include "scripts/model_source.h"
#include "scripts/train_config.h"

namespace polyhead {

// Writes `destination` (layers/conversion/convert_checkpoint.h): a checkpoint where the source is
// one, else a model folder, in the type that the source's weights are stored in. `config` is that
// after conversion, `method` says how it was converted, and `report`, called with the folder before
// it gets its name, becomes conversion.json. A null conversion keeps all weights.
void write_converted(const ModelSource& source, const std::filesystem::path& destination,
                     AttentionConversion* conversion, const TrainConfig& config,
                     const std::string& method,
                     const std::function<std::string(const std::filesystem::path&)>& report);

}  // namespace polyhead
