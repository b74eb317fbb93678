// polyhead convert --to mla.
#pragma once

#include <filesystem>
#include <string>

#include "framework/checkpoint/trainer_state.h"
#include "scripts/convert.h"
#include "scripts/train_config.h"

namespace polyhead {

// Converts `source`, a verified checkpoint whose trainer.json is `state` and whose configuration is
// `config`: exactly where no ranks are given. Returns what it did, as convert() does.
std::string convert_to_latent(const ConvertOptions& options, const std::filesystem::path& source,
                              const TrainerState& state, const TrainConfig& config);

}  // namespace polyhead
