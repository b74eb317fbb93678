// The keys of all sections of a training configuration.
#pragma once

#include "framework/config/enum_names.h"
#include "framework/config/fields.h"
#include "layers/model_config_fields.h"
#include "scripts/train_config.h"

namespace polyhead {

template <>
struct EnumNames<DeviceChoice> {
  static constexpr std::array kNames = {"auto", "cpu", "cuda"};
};
template <>
struct EnumNames<Precision> {
  static constexpr std::array kNames = {"auto", "fp32", "bf16"};
};
template <>
struct EnumNames<Recompute> {
  static constexpr std::array kNames = {"none", "selective", "full"};
};
template <>
struct EnumNames<UptrainSchedule> {
  static constexpr std::array kNames = {"continue", "rewarm", "wsd"};
};

template <class Visitor>
void visit_fields(Visitor& visitor, TrainingConfig& config) {
  visitor("train_steps", config.train_steps, {.aliases = {"train_iters"}});
  visitor("global_batch_size", config.global_batch_size, {.required = true});
  visitor("micro_batch_size", config.micro_batch_size, {.required = true});
  visitor("seed", config.seed);
  visitor("device", config.device);
  visitor("precision", config.precision);
  visitor("deterministic", config.deterministic, {.aliases = {"deterministic_mode"}});
  visitor("cuda_graph", config.cuda_graph);
  visitor("recompute", config.recompute, {.aliases = {"recompute_granularity"}});
  visitor("eval_interval", config.eval_interval);
  visitor("eval_samples", config.eval_samples);
  visitor("log_interval", config.log_interval);
  visitor("replica_check_interval", config.replica_check_interval);
  visitor("max_consecutive_skipped_steps", config.max_consecutive_skipped_steps);

  visitor.unsupported("fp16", "false", "use precision: bf16");
  visitor.unsupported("bf16", "false", "use precision: bf16");
  visitor.unsupported("train_samples", "", "use train_steps");
}

template <class Visitor>
void visit_fields(Visitor& visitor, CheckpointConfig& config) {
  visitor("folder", config.folder, {.required = true, .aliases = {"save"}});
  visitor("save_interval", config.save_interval);
  visitor("keep_last", config.keep_last);
  visitor("keep_every", config.keep_every);

  visitor.unsupported("load", "", "use --resume, or the uptrain section");
}

template <class Visitor>
void visit_fields(Visitor& visitor, DistillConfig& config) {
  visitor("from", config.from);
  visitor("weight", config.weight);
  visitor("temperature", config.temperature);
}

template <class Visitor>
void visit_fields(Visitor& visitor, UptrainConfig& config) {
  visitor("source", config.source, {.required = true});
  visitor("fraction", config.fraction);
  visitor("steps", config.steps);
  visitor("tokens", config.tokens);
  visitor("learning_rate_mode", config.learning_rate_mode);
  visitor("rewarm_ratio", config.rewarm_ratio);
  visitor("rewarm_fraction", config.rewarm_fraction);
  visitor("distill", config.distill);
}

template <class Visitor>
void visit_fields(Visitor& visitor, TrainConfig& config) {
  visitor("model", config.model);
  visitor("parallel", config.parallel);
  visitor("data", config.data, {.required = true});
  visitor("optimizer", config.optimizer, {.required = true});
  visitor("training", config.training, {.required = true});
  visitor("checkpoint", config.checkpoint, {.required = true});
  visitor("uptrain", config.uptrain);
}

}  // namespace polyhead
