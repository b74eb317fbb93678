// The keys of a config.json that change nothing here: what other tasks, generation and training
// read.
#pragma once

#include <string_view>

#include "layers/huggingface/config_fields.h"

namespace polyhead {

// Throws Error for the first key that was not read and is not known to be harmless, as the rule in
// config_reader.h says.
void refuse_unknown_keys(ConfigFields& fields, std::string_view model_type);

}  // namespace polyhead
