// What each family's config.json says, key by key.
#pragma once

#include <span>
#include <string_view>

#include "layers/huggingface/config_fields.h"
#include "layers/model_config.h"

namespace polyhead {

struct ConfigFamily {
  std::string_view model_type;
  void (*read)(ConfigFields& fields, ModelConfig& config);
};

std::span<const ConfigFamily> config_families();

// Polyhead's own keys, as config_json.cpp writes them.
void read_polyhead_fields(ConfigFields& fields, ModelConfig& config);

}  // namespace polyhead
