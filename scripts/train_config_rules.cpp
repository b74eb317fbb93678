#include "framework/dispatch.h"
#include "scripts/train_config.h"

namespace polyhead {

namespace {

constexpr std::int64_t kMostSteps = std::int64_t{1} << 40;
constexpr std::int64_t kLargestBatch = 1 << 24;

void append(std::vector<RuleViolation>& all, const std::vector<RuleViolation>& more,
            const std::string& section = "") {
  for (const RuleViolation& violation : more) {
    all.push_back({section + violation.key, violation.message});
  }
}

// Why this binary cannot run on the device, or empty.
std::string missing_back_end(Device device) {
  try {
    dispatch(device, []<Device>() {});
    return "";
  } catch (const Error& error) {
    return error.what();
  }
}

std::vector<RuleViolation> training_rule_violations(const TrainConfig& config) {
  const TrainingConfig& c = config.training;
  Rules rules("training");
  if (!config.awaits_source()) rules.require_range(c.train_steps, "train_steps", 1, kMostSteps);
  rules.require_range(c.micro_batch_size, "micro_batch_size", 1, kLargestBatch);
  rules.require_range(c.global_batch_size, "global_batch_size", 1, kLargestBatch);
  rules.require(c.seed >= 0, "seed", "got {}; must not be negative", c.seed);
  rules.require_range(c.eval_interval, "eval_interval", 0, kMostSteps);
  rules.require_range(c.log_interval, "log_interval", 1, kMostSteps);
  rules.require_range(c.replica_check_interval, "replica_check_interval", 0, kMostSteps);
  rules.require_range(c.max_consecutive_skipped_steps, "max_consecutive_skipped_steps", 0,
                      kMostSteps);
  if (c.eval_samples) rules.require_range(*c.eval_samples, "eval_samples", 1, kMostSteps);
  if (c.eval_interval == 0) {
    rules.forbid(c.eval_samples, "eval_samples",
                 "eval_interval is 0, so nothing is evaluated; set it, or delete eval_samples");
  }
  rules.require(
      c.eval_interval == 0 || config.data.split || !config.data.validation.empty(), "eval_interval",
      "got {}; there is nothing to evaluate; set data.validation or data.split", c.eval_interval);
  const std::string missing =
      c.device == DeviceChoice::kCuda ? missing_back_end(Device::kCuda) : "";
  rules.require(missing.empty(), "device", "got cuda; {}", missing);
  const bool on_cpu = c.device == DeviceChoice::kCpu ||
                      (c.device == DeviceChoice::kAuto && !missing_back_end(Device::kCuda).empty());
  rules.require(!on_cpu || c.precision != Precision::kBf16, "precision",
                "got bf16; the CPU computes in fp32; use fp32 or auto");
  rules.require(!on_cpu || !c.cuda_graph, "cuda_graph",
                "got true; the CPU has no graphs; delete it");
  rules.require(
      !config.data.eod_mask_loss || !c.cuda_graph, "cuda_graph",
      "got true; with data.eod_mask_loss the weight of a token changes from step to step, "
      "but a recorded step repeats it; set one of the two to false");
  return rules.violations();
}

std::vector<RuleViolation> checkpoint_rule_violations(const CheckpointConfig& c) {
  Rules rules("checkpoint");
  rules.require(!c.folder.empty(), "folder", "got \"\"; must be the path of the run's folder");
  rules.require_range(c.save_interval, "save_interval", 0, kMostSteps);
  rules.require_range(c.keep_last, "keep_last", 1, kMostSteps);
  rules.require_range(c.keep_every, "keep_every", 0, kMostSteps);
  if (c.keep_every > 0) {
    rules.require(c.save_interval > 0 && c.keep_every % c.save_interval == 0, "keep_every",
                  "got {}; must be a multiple of save_interval ({}), for only saved steps are kept",
                  c.keep_every, c.save_interval);
  }
  return rules.violations();
}

std::vector<RuleViolation> uptrain_rule_violations(const UptrainConfig& c,
                                                   const OptimizerConfig& optimizer) {
  Rules rules("uptrain");
  rules.require(!c.source.empty(), "source", "got \"\"; must be the folder of a checkpoint");
  rules.require(c.fraction.has_value() + c.steps.has_value() + c.tokens.has_value() <= 1,
                c.fraction ? "fraction" : "steps",
                "fraction, steps and tokens each give the length; keep one");
  rules.require(!c.fraction || (*c.fraction > 0 && *c.fraction <= 1), "fraction",
                "got {}; is a share of the parent's steps, greater than 0 and at most 1",
                c.fraction.value_or(0));
  if (c.steps) rules.require_range(*c.steps, "steps", 1, kMostSteps);
  if (c.tokens) rules.require_range(*c.tokens, "tokens", 1, std::int64_t{1} << 60);
  if (c.learning_rate_mode == UptrainSchedule::kContinue) {
    constexpr auto kWarmsUp =
        "learning_rate_mode continue has no warm-up; choose rewarm or wsd, or delete it";
    rules.forbid(c.rewarm_ratio, "rewarm_ratio", kWarmsUp);
    rules.forbid(c.rewarm_fraction, "rewarm_fraction", kWarmsUp);
  }
  const double ratio = c.rewarm_ratio.value_or(0.3);
  const double fraction = c.rewarm_fraction.value_or(0.02);
  rules.require(ratio > 0 && ratio <= 1, "rewarm_ratio",
                "got {}; is a share of the peak, greater than 0 and at most 1", ratio);
  rules.require(fraction >= 0 && fraction < 1, "rewarm_fraction",
                "got {}; is a share of the steps, at least 0 and less than 1", fraction);
  const double minimum = optimizer.min_learning_rate.value_or(0);
  // A tenth of the peak may lie one rounding below peak / 10.
  rules.require(c.learning_rate_mode == UptrainSchedule::kContinue ||
                    ratio * optimizer.learning_rate >= minimum * (1 - 1e-12),
                "rewarm_ratio",
                "got {}; of learning_rate ({}) that is less than min_learning_rate ({}), to which "
                "the rate then falls; use a larger share",
                ratio, optimizer.learning_rate, minimum);
  return rules.violations();
}

std::vector<RuleViolation> distill_rule_violations(const DistillConfig& c) {
  Rules rules("uptrain.distill");
  rules.require(!c.from.empty(), "from",
                "missing; name the folder of the checkpoint to learn from; the parent of "
                "uptrain.source is not taken by itself");
  rules.require(c.weight > 0 && c.weight <= 1, "weight",
                "got {}; is the share of the divergence in the loss, greater than 0 and at most 1",
                c.weight);
  rules.require(c.temperature > 0, "temperature",
                "got {}; both models' logits are divided by it; must be greater than 0",
                c.temperature);
  return rules.violations();
}

// Rules between the sections; sizes are valid.
std::vector<RuleViolation> cross_rule_violations(const TrainConfig& config,
                                                 std::optional<int> world_size) {
  Rules rules;
  const std::int64_t tp = config.parallel.tensor_model_parallel_size;
  const std::int64_t length = config.data.sequence_length;
  const TrainingConfig& training = config.training;
  const std::int64_t tokens = training.micro_batch_size * length;
  rules.require(!config.parallel.sequence_parallel || tokens % tp == 0,
                "parallel.sequence_parallel",
                "got true; micro_batch_size x sequence_length ({} tokens) must be a multiple of "
                "tensor_model_parallel_size ({}), each rank holds an equal part",
                tokens, tp);
  rules.require(length <= config.model.max_position_embeddings.value_or(length),
                "model.max_position_embeddings",
                "got {}; must be at least data.sequence_length ({})",
                config.model.max_position_embeddings.value_or(0), length);
  if (!world_size) return rules.violations();
  if (*world_size % tp != 0) {
    rules.require(false, "parallel.tensor_model_parallel_size",
                  "got {}; must divide the number of ranks ({}); use {}, or start another number "
                  "with mpirun -n",
                  tp, *world_size, divisors_of(*world_size));
    return rules.violations();
  }
  const std::int64_t dp = *world_size / tp;
  rules.require(training.global_batch_size % (training.micro_batch_size * dp) == 0,
                "training.global_batch_size",
                "got {}; must be a multiple of micro_batch_size ({}) x data-parallel ranks ({} = "
                "{} ranks / {})",
                training.global_batch_size, training.micro_batch_size, dp, *world_size, tp);
  return rules.violations();
}

}  // namespace

std::vector<RuleViolation> validate(const TrainConfig& config, std::optional<int> world_size) {
  std::vector<RuleViolation> all;
  const std::vector<RuleViolation> parallel = parallel_rule_violations(config.parallel);
  const bool no_model = config.model.num_layers == 0 && config.model.hidden_size == 0;
  if (no_model && !config.uptrain) {
    all.push_back({"model", "missing; only an uptrain section can stand in its place"});
  } else if (!config.awaits_source() && parallel.empty()) {
    append(all, model_rule_violations(config.model, config.parallel.tensor_model_parallel_size),
           "model.");
  }
  append(all, parallel);
  append(all, data_rule_violations(config.data));
  append(all, optimizer_rule_violations(config.optimizer));
  append(all, training_rule_violations(config));
  append(all, checkpoint_rule_violations(config.checkpoint));
  if (config.uptrain) append(all, uptrain_rule_violations(*config.uptrain, config.optimizer));
  if (config.distillation()) append(all, distill_rule_violations(*config.distillation()));
  if (all.empty()) append(all, cross_rule_violations(config, world_size));
  return all;
}

std::vector<RuleViolation> train_config_warnings(const TrainConfig& config) {
  Rules rules;
  const std::int64_t length = config.data.sequence_length;
  rules.require(config.model.window_size.value_or(0) < length, "model.window_size",
                "{} tokens cover the whole sequence_length ({}), so the window never acts",
                config.model.window_size.value_or(0), length);
  const std::int64_t warmup = config.optimizer.warmup_steps;
  rules.require(config.training.train_steps == 0 || warmup < config.training.train_steps,
                "optimizer.warmup_steps",
                "{} steps outlast train_steps ({}), so the learning rate never reaches its peak",
                warmup, config.training.train_steps);
  return rules.violations();
}

}  // namespace polyhead
