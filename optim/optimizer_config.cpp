#include "optim/optimizer_config.h"

namespace polyhead {

namespace {

constexpr std::int64_t kMostSteps = std::int64_t{1} << 40;

void check_schedule(const OptimizerConfig& c, Rules& rules) {
  rules.require_range(c.warmup_steps, "warmup_steps", 0, kMostSteps);
  if (c.decay_steps) rules.require_range(*c.decay_steps, "decay_steps", 1, kMostSteps);
  if (c.wsd_decay_steps) rules.require_range(*c.wsd_decay_steps, "wsd_decay_steps", 1, kMostSteps);
  if (c.schedule == ScheduleShape::kConstant) {
    constexpr auto kConstant = "schedule constant never decays; choose another, or delete it";
    rules.forbid(c.min_learning_rate, "min_learning_rate", kConstant);
    rules.forbid(c.decay_steps, "decay_steps", kConstant);
  }
  if (c.schedule == ScheduleShape::kWsd) {
    rules.require(c.wsd_decay_steps.has_value(), "wsd_decay_steps",
                  "missing; schedule wsd needs the length of its decay; a tenth of decay_steps is "
                  "usual");
  } else {
    rules.forbid(c.wsd_decay_steps, "wsd_decay_steps",
                 "only schedule wsd reads it; choose wsd, or delete it");
  }
  const auto in_range = [](std::int64_t steps) { return 0 <= steps && steps <= kMostSteps; };
  const bool sums_fit = in_range(c.warmup_steps) && in_range(c.wsd_decay_steps.value_or(0));
  if (!c.decay_steps || !sums_fit) return;
  rules.require(c.warmup_steps < *c.decay_steps || c.warmup_steps == 0, "warmup_steps",
                "got {}; must be less than decay_steps ({}), which counts the warm-up in",
                c.warmup_steps, *c.decay_steps);
  rules.require(
      c.warmup_steps + c.wsd_decay_steps.value_or(0) <= *c.decay_steps || !c.wsd_decay_steps,
      "wsd_decay_steps", "got {}; must fit between warmup_steps ({}) and decay_steps ({})",
      c.wsd_decay_steps.value_or(0), c.warmup_steps, *c.decay_steps);
}

}  // namespace

std::vector<RuleViolation> optimizer_rule_violations(const OptimizerConfig& c) {
  Rules rules("optimizer");
  rules.require_positive(c.learning_rate, "learning_rate");
  rules.require(
      c.min_learning_rate.value_or(0) >= 0 && c.min_learning_rate.value_or(0) <= c.learning_rate,
      "min_learning_rate", "got {}; must lie in 0 to learning_rate ({})",
      c.min_learning_rate.value_or(0), c.learning_rate);
  rules.require(c.weight_decay >= 0, "weight_decay", "got {}; must not be negative",
                c.weight_decay);
  rules.require(0 <= c.adam_beta1 && c.adam_beta1 < 1, "adam_beta1",
                "got {}; must be at least 0 and less than 1", c.adam_beta1);
  rules.require(0 <= c.adam_beta2 && c.adam_beta2 < 1, "adam_beta2",
                "got {}; must be at least 0 and less than 1", c.adam_beta2);
  rules.require_positive(c.adam_epsilon, "adam_epsilon");
  rules.require(c.clip_grad_norm >= 0, "clip_grad_norm", "got {}; must not be negative; 0 is off",
                c.clip_grad_norm);
  check_schedule(c, rules);
  return rules.violations();
}

DType moments_dtype(const OptimizerConfig& config, DType values) {
  return config.moments_dtype == MomentsDtype::kBf16 ? DType::kBf16 : accumulation_dtype(values);
}

}  // namespace polyhead
