// The rotation in a config.json: rope_theta and rope_scaling of transformers 4, rope_parameters of
// transformers 5.
#pragma once

#include "layers/huggingface/config_fields.h"
#include "layers/model_config.h"

namespace polyhead {

// Sets rotary_base, rope_type and what belongs to it. `fields` are those of the whole file. Throws
// Error for a rotation that Polyhead does not have, naming its key.
void read_rotation(ConfigFields& fields, ModelConfig& config);

}  // namespace polyhead
