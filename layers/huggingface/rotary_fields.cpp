#include "layers/huggingface/rotary_fields.h"

#include <cmath>

namespace polyhead {
namespace {

const nlohmann::json kNothing = nlohmann::json::object();

struct RopeObject {
  const nlohmann::json* json;
  std::string key;
};

RopeObject find_rope(ConfigFields& fields) {
  const nlohmann::json* parameters = fields.object("rope_parameters");
  const nlohmann::json* scaling = fields.object("rope_scaling");
  if (parameters != nullptr && scaling != nullptr && *parameters != *scaling) {
    fields.refuse("rope_scaling", "rope_parameters says something else; delete one of the two");
  }
  if (parameters != nullptr) return {parameters, "rope_parameters"};
  if (scaling != nullptr) return {scaling, "rope_scaling"};
  return {&kNothing, "rope_parameters"};
}

double read_base(ConfigFields& fields, ConfigFields& rope) {
  constexpr double kDefault = 10000.0;
  const std::optional<double> outer = fields.number("rope_theta"),
                              inner = rope.number("rope_theta");
  if (outer && inner && *outer != *inner) {
    fields.refuse("rope_theta", fmt::format("the rotation's own says {}; delete one", *inner));
  }
  return inner.value_or(outer.value_or(kDefault));
}

std::string read_type(ConfigFields& rope) {
  const std::optional<std::string> type = rope.text("rope_type"), old = rope.text("type");
  if (type && old && *type != *old) rope.refuse("type", "rope_type says something else");
  return type.value_or(old.value_or("default"));
}

// The amplitude of cos and sin as transformers derives it.
double yarn_attention_factor(ConfigFields& rope, double factor) {
  const double mscale = rope.number("mscale").value_or(0);
  const double mscale_all_dim = rope.number("mscale_all_dim").value_or(0);
  const bool both = mscale != 0 && mscale_all_dim != 0;
  const double derived = both ? yarn_mscale(factor, mscale) / yarn_mscale(factor, mscale_all_dim)
                              : yarn_mscale(factor, 1.0);
  return rope.number("attention_factor").value_or(derived);
}

// Polyhead's amplitude is the ratio of two mscales, of which the second also scales the softmax of
// latent attention: the first is what can be chosen freely.
void read_yarn(ConfigFields& rope, ModelConfig& config) {
  constexpr double kExact = 1e-12;
  const double factor = config.rotary_scaling_factor.value();
  config.beta_fast = rope.number("beta_fast");
  config.beta_slow = rope.number("beta_slow");
  rope.require_flag("truncate", true, true, "only whole dimensions bound the ramp; set it to true");
  const double wanted = yarn_attention_factor(rope, factor);
  const double all_dim = rope.number("mscale_all_dim").value_or(0);
  if (all_dim != 0) config.mscale_all_dim = all_dim;
  const double mscale = rope.number("mscale").value_or(1.0);
  const double amplitude = yarn_mscale(factor, mscale) / yarn_mscale(factor, all_dim);
  if (std::abs(amplitude - wanted) <= kExact * wanted) {
    if (mscale != 1.0) config.mscale = mscale;
    return;
  }
  const double above_one = wanted * yarn_mscale(factor, all_dim) - 1.0;
  if (factor <= 1.0 || above_one < 0) {
    rope.refuse(
        "attention_factor",
        fmt::format("the amplitude of cos and sin would be {}, which no mscale gives", wanted));
  }
  config.mscale = above_one / (0.1 * std::log(factor));
}

void read_scaling(ConfigFields& fields, ConfigFields& rope, ModelConfig& config) {
  const double factor = rope.required_number("factor");
  config.rotary_scaling_factor = factor;
  // transformers gives the file's own the last word, then the rotation's, then the context.
  std::optional<std::int64_t> original = fields.integer("original_max_position_embeddings");
  const std::optional<std::int64_t> inner = rope.integer("original_max_position_embeddings");
  if (!original) original = inner ? inner : config.max_position_embeddings;
  config.original_max_position_embeddings = original;
  if (config.rope_type == RopeType::kYarn) return read_yarn(rope, config);
  config.low_freq_factor = rope.required_number("low_freq_factor");
  config.high_freq_factor = rope.required_number("high_freq_factor");
}

}  // namespace

void read_rotation(ConfigFields& fields, ModelConfig& config) {
  const RopeObject object = find_rope(fields);
  ConfigFields rope(*object.json, fields.source(), object.key + ".");
  config.rotary_base = read_base(fields, rope);
  for (ConfigFields* place : {&fields, &rope}) {
    if (place->number("partial_rotary_factor").value_or(1.0) != 1.0) {
      place->refuse("partial_rotary_factor", "this family's class rotates whole heads; delete it");
    }
  }
  const std::string type = read_type(rope);
  if (type == "yarn" || type == "llama3") {
    config.rope_type = type == "yarn" ? RopeType::kYarn : RopeType::kLlama3;
    read_scaling(fields, rope, config);
  } else if (type != "default") {
    rope.refuse(rope.has("rope_type") ? "rope_type" : "type",
                "only the rotations default, llama3 and yarn are computed; take a model that has "
                "one of them");
  }
  rope.refuse_others({}, "it is not known to the rotation " + type +
                             "; delete it, if it does not change the rotation");
}

}  // namespace polyhead
