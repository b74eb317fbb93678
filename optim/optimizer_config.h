// The optimizer section of a configuration: AdamW (Loshchilov and Hutter 2019), the schedule of its
// learning rate, and gradient clipping.
#pragma once

#include <optional>
#include <vector>

#include "framework/config/enum_names.h"
#include "framework/config/fields.h"
#include "framework/config/rules.h"
#include "framework/dtype.h"
#include "optim/learning_rate.h"

namespace polyhead {

// kBf16 is rounded stochastically.
enum class MomentsDtype { kFp32, kBf16 };

struct OptimizerConfig {
  double learning_rate = 0;                 // the peak
  std::optional<double> min_learning_rate;  // absent: learning_rate / 10
  ScheduleShape schedule = ScheduleShape::kCosine;
  std::int64_t warmup_steps = 0;
  std::optional<std::int64_t> decay_steps;      // warm-up included; absent: train_steps
  std::optional<std::int64_t> wsd_decay_steps;  // the last of decay_steps; wsd only
  double weight_decay = 0.1;                    // of matrices
  double adam_beta1 = 0.9;
  double adam_beta2 = 0.95;
  double adam_epsilon = 1e-8;
  double clip_grad_norm = 1.0;  // 0: no clipping
  MomentsDtype moments_dtype = MomentsDtype::kFp32;
};

std::vector<RuleViolation> optimizer_rule_violations(const OptimizerConfig& config);

// Of the moments of a model that computes in `values`.
DType moments_dtype(const OptimizerConfig& config, DType values);

template <>
struct EnumNames<ScheduleShape> {
  static constexpr std::array kNames = {"constant", "linear", "cosine", "wsd"};
};
template <>
struct EnumNames<MomentsDtype> {
  static constexpr std::array kNames = {"fp32", "bf16"};
};

template <class Visitor>
void visit_fields(Visitor& visitor, OptimizerConfig& config) {
  visitor("learning_rate", config.learning_rate, {.required = true, .aliases = {"lr"}});
  visitor("min_learning_rate", config.min_learning_rate, {.aliases = {"min_lr"}});
  visitor("schedule", config.schedule, {.aliases = {"lr_decay_style"}});
  visitor("warmup_steps", config.warmup_steps, {.aliases = {"lr_warmup_iters"}});
  visitor("decay_steps", config.decay_steps, {.aliases = {"lr_decay_iters"}});
  visitor("wsd_decay_steps", config.wsd_decay_steps, {.aliases = {"lr_wsd_decay_iters"}});
  visitor("weight_decay", config.weight_decay);
  visitor("adam_beta1", config.adam_beta1);
  visitor("adam_beta2", config.adam_beta2);
  visitor("adam_epsilon", config.adam_epsilon, {.aliases = {"adam_eps"}});
  visitor("clip_grad_norm", config.clip_grad_norm, {.aliases = {"clip_grad"}});
  visitor("moments_dtype", config.moments_dtype);
}

}  // namespace polyhead
