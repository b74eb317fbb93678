// polyhead convert --to mla.
#pragma once

#include <string>

#include "scripts/convert.h"
#include "scripts/model_source.h"
#include "scripts/train_config.h"

namespace polyhead {

// Converts `source`, a verified checkpoint or another program's model, whose configuration is
// `config`: exactly where no ranks are given. Returns what it did, as convert() does.
std::string convert_to_latent(const ConvertOptions& options, const ModelSource& source,
                              const TrainConfig& config);

}  // namespace polyhead
