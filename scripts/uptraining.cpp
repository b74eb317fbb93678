#include "scripts/uptraining.h"

#include "framework/error.h"
#include "scripts/config_changes.h"

namespace polyhead {
namespace {

std::int64_t steps_of(const TrainConfig& config, std::int64_t source_steps) {
  const UptrainConfig& uptrain = *config.uptrain;
  if (uptrain.steps) return *uptrain.steps;
  if (uptrain.tokens) {
    const std::int64_t per_step = config.training.global_batch_size * config.data.sequence_length;
    return (*uptrain.tokens + per_step - 1) / per_step;
  }
  return uptrain_steps(*uptrain.fraction, source_steps);
}

// The source alone decides the schedule, and the file that was written for this run must say the
// same: a key that is ignored would mislead.
void require_same_schedule(const TrainConfig& config, const TrainConfig& source) {
  std::string differences;
  for (const ConfigChange& change : config_changes(source, config)) {
    for (const char* key :
         {"learning_rate", "min_learning_rate", "schedule", "warmup_steps", "wsd_decay_steps"}) {
      if (change.key == fmt::format("optimizer.{}", key)) differences += "\n  " + change.describe();
    }
  }
  if (differences.empty()) return;
  throw ConfigurationError(
      fmt::format("uptrain.source: the learning rate goes on from {}, but this configuration has "
                  "another schedule:{}\nwrite the source's values; uptrain.rewarm_ratio sets how "
                  "high the rate rises again with learning_rate_mode rewarm or wsd",
                  config.uptrain->source, differences));
}

}  // namespace

TrainConfig complete_uptraining(TrainConfig config, const TrainConfig& source,
                                std::int64_t source_steps) {
  UptrainConfig& uptrain = *config.uptrain;
  uptrain.steps = steps_of(config, source_steps);
  uptrain.fraction.reset();
  uptrain.tokens.reset();
  config.model = source.model;
  config.training.train_steps = source_steps + *uptrain.steps;
  require_same_schedule(config, source);
  config.optimizer.decay_steps = source.optimizer.decay_steps;
  return config;
}

TrainConfig complete_uptraining(TrainConfig config, const ModelConfig& source) {
  UptrainConfig& uptrain = *config.uptrain;
  if (!uptrain.steps && !uptrain.tokens) {
    throw ConfigurationError(fmt::format(
        "uptrain.fraction: {} has no trainer.json, so it is not known of how many steps "
        "this would be a fraction; set uptrain.steps or uptrain.tokens in its place",
        uptrain.source));
  }
  if (uptrain.learning_rate_mode != UptrainSchedule::kContinue) {
    throw ConfigurationError(
        fmt::format("uptrain.learning_rate_mode: {} has no trainer.json and so no learning rate to "
                    "rise from; leave it out, and write the schedule into the optimizer section",
                    uptrain.source));
  }
  uptrain.steps = steps_of(config, 0);
  uptrain.fraction.reset();
  uptrain.tokens.reset();
  config.model = source;
  config.training.train_steps = *uptrain.steps;
  return config;
}

std::int64_t first_uptraining_step(const TrainConfig& config) {
  return config.uptrain ? config.training.train_steps - *config.uptrain->steps : 0;
}

LearningRateSchedule learning_rate_schedule(const TrainConfig& config) {
  const OptimizerConfig& optimizer = config.optimizer;
  const LearningRateSchedule schedule{
      .shape = optimizer.schedule,
      .peak = optimizer.learning_rate,
      .minimum = optimizer.min_learning_rate.value_or(0),
      .warmup_steps = optimizer.warmup_steps,
      .decay_steps = optimizer.decay_steps.value_or(config.training.train_steps),
      .wsd_decay_steps = optimizer.wsd_decay_steps.value_or(0)};
  if (!config.uptrain) return schedule;
  UptrainRate rate{.mode = config.uptrain->learning_rate_mode};
  rate.rewarm_ratio = config.uptrain->rewarm_ratio.value_or(rate.rewarm_ratio);
  rate.warmup_fraction = config.uptrain->rewarm_fraction.value_or(rate.warmup_fraction);
  return uptrain_schedule(schedule, rate, first_uptraining_step(config), *config.uptrain->steps);
}

}  // namespace polyhead
