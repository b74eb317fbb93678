#include "scripts/train_config.h"

#include "framework/config/field_reader.h"
#include "framework/config/field_writer.h"
#include "framework/config/yaml_parser.h"
#include "scripts/train_config_fields.h"

namespace polyhead {

namespace {

// The place of a key, or of the closest section above it that the file has.
Place place_of(std::string key, const ReadContext& context) {
  while (!context.places.contains(key)) {
    const std::size_t dot = key.rfind('.');
    key = dot == std::string::npos ? "" : key.substr(0, dot);
  }
  return context.places.at(key);
}

// Rules also blame the defaults that stand in for values that could not be read: those were told.
void add_violations(const std::vector<RuleViolation>& violations, ReadContext& context) {
  for (const RuleViolation& violation : violations) {
    if (context.problems.blames(violation.key)) continue;
    context.problems.add(place_of(violation.key, context), violation.key, violation.message);
  }
}

// What the source of an uptraining run decides must not stand in its file too.
void check_uptrain_keys(const TrainConfig& config, ReadContext& context) {
  if (!config.uptrain) return;
  const auto forbid = [&](const std::string& key, std::string_view message) {
    const auto place = context.places.find(key);
    if (place != context.places.end()) context.problems.add(place->second, key, message);
  };
  forbid("model", "the model comes from uptrain.source; delete this section");
  forbid("training.train_steps", "uptrain gives the number of steps; delete it");
  forbid("optimizer.decay_steps", "the schedule goes on from uptrain.source; delete it");
}

YamlNode parse_root(const std::string& text, const std::string& source, Problems& problems) {
  std::optional<YamlNode> root = parse_yaml(text, source, problems);
  if (root && root->kind != YamlNode::Kind::kMapping) {
    problems.add({source, 1, 1}, "", "must be a mapping of sections: model, data, optimizer, ...");
  }
  if (!root || root->kind != YamlNode::Kind::kMapping) problems.throw_if_any();
  root->place = {source};
  return *root;
}

}  // namespace

TrainConfig resolved(TrainConfig config) {
  OptimizerConfig& optimizer = config.optimizer;
  if (optimizer.schedule != ScheduleShape::kConstant) {
    if (!optimizer.min_learning_rate) optimizer.min_learning_rate = optimizer.learning_rate / 10;
    if (!optimizer.decay_steps && config.training.train_steps > 0) {
      optimizer.decay_steps = config.training.train_steps;
    }
  }
  if (config.uptrain) {
    UptrainConfig& uptrain = *config.uptrain;
    if (!uptrain.fraction && !uptrain.steps && !uptrain.tokens) uptrain.fraction = 0.05;
    if (uptrain.learning_rate_mode != UptrainSchedule::kContinue) {
      uptrain.rewarm_ratio = uptrain.rewarm_ratio.value_or(0.3);
      uptrain.rewarm_fraction = uptrain.rewarm_fraction.value_or(0.02);
    }
  }
  ModelConfig& model = config.model;
  if (model.num_attention_heads < 1) return config;
  const bool divides = model.hidden_size % model.num_attention_heads == 0;
  if (model.is_latent()) {
    model.latent_norm = model.normalizes_latents();
    if (*model.latent_norm) model.mla_norm_epsilon = model.latent_norm_epsilon();
    model.rotary_segments = model.segments();
  } else {
    model.num_query_groups = model.groups();
    if (!model.kv_channels && divides) model.kv_channels = model.head_dim();
  }
  if (model.rotates()) {
    model.rope_type = model.rotation();
    model.rotary_base = model.rotation_base();
    if (!model.is_latent()) model.rotary_percent = model.rotated_share();
  }
  return config;
}

TrainConfig load_train_config(const std::filesystem::path& path,
                              const std::vector<std::string>& overrides,
                              std::optional<int> world_size) {
  Problems problems;
  YamlNode root = parse_root(read_config_text(path), path.string(), problems);
  ReadContext context{ReadMode::kUserFile, known_keys<TrainConfig>(), problems};
  for (const std::string& override : overrides) apply_override(root, override, context);
  TrainConfig config;
  read_fields(root, config, context);
  check_uptrain_keys(config, context);
  config = resolved(config);
  add_violations(validate(config, world_size), context);
  problems.throw_if_any();
  return config;
}

TrainConfig parse_resolved_config(const std::string& yaml, const std::string& source) {
  Problems problems;
  YamlNode root = parse_root(yaml, source, problems);
  ReadContext context{ReadMode::kResolved, known_keys<TrainConfig>(), problems};
  TrainConfig config;
  read_fields(root, config, context);
  add_violations(validate(config, std::nullopt), context);
  problems.throw_if_any();
  return config;
}

std::string to_yaml(const TrainConfig& config) {
  return write_fields(config);
}

}  // namespace polyhead
