// The configuration of a training run: the sections of one YAML file.
//
//   const TrainConfig config = load_train_config("configs/quickstart_gqa.yaml",
//                                                {"training.train_steps=10"}, world.size());
//
// Everything wrong with the file, the overrides and the rules between sections is reported in one
// ConfigurationError. configs/README.md lists every key.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/data_config.h"
#include "framework/config/rules.h"
#include "layers/model_config.h"
#include "layers/parallel_config.h"
#include "layers/recompute.h"
#include "optim/learning_rate.h"
#include "optim/optimizer_config.h"

namespace polyhead {

enum class DeviceChoice { kAuto, kCpu, kCuda };
enum class Precision { kAuto, kFp32, kBf16 };

struct TrainingConfig {
  std::int64_t train_steps = 0;        // of the optimizer; 0 only while uptrain has not set it
  std::int64_t global_batch_size = 0;  // sequences
  std::int64_t micro_batch_size = 0;   // sequences on one data-parallel rank at a time
  std::int64_t seed = 1234;
  DeviceChoice device = DeviceChoice::kAuto;
  Precision precision = Precision::kAuto;
  bool deterministic = false;  // two runs give the same bits, at the price of measured products
  bool cuda_graph = false;     // a step is recorded once, then played; the bits stay the same
  Recompute recompute = Recompute::kNone;
  std::int64_t eval_interval = 0;            // steps; 0: never
  std::optional<std::int64_t> eval_samples;  // absent: all of the validation data
  std::int64_t log_interval = 1;             // steps
  std::int64_t replica_check_interval = 0;   // steps; 0: at every save only
  std::int64_t max_consecutive_skipped_steps = 3;
};

struct CheckpointConfig {
  std::string folder;
  std::int64_t save_interval = 0;  // steps; 0: at the end only
  std::int64_t keep_last = 2;
  std::int64_t keep_every = 0;  // steps whose checkpoints stay for good; 0: none
};

// A checkpoint whose predictions are learnt beside the text.
struct DistillConfig {
  std::string from;          // the checkpoint's folder
  double weight = 0.5;       // of the divergence; the rest is the cross-entropy's
  double temperature = 1.0;  // of both models' softmax in the divergence
};

// Training that starts from another run's or a converted checkpoint, whose model it takes.
struct UptrainConfig {
  std::string source;              // the checkpoint's folder
  std::optional<double> fraction;  // of the parent's steps; absent without steps and tokens: 0.05
  std::optional<std::int64_t> steps;
  std::optional<std::int64_t> tokens;
  UptrainSchedule learning_rate_mode = UptrainSchedule::kContinue;
  std::optional<double> rewarm_ratio;     // of the peak; rewarm and wsd, absent: 0.3
  std::optional<double> rewarm_fraction;  // of the uptraining steps; rewarm and wsd, absent: 0.02
  std::optional<DistillConfig> distill;
};

struct TrainConfig {
  ModelConfig model;
  ParallelConfig parallel;
  DataConfig data;
  OptimizerConfig optimizer;
  TrainingConfig training;
  CheckpointConfig checkpoint;
  std::optional<UptrainConfig> uptrain;

  // uptrain leaves the model and train_steps to its source until that has been read.
  bool awaits_source() const { return uptrain.has_value() && model.num_layers == 0; }
  // Null where nothing is distilled.
  const DistillConfig* distillation() const {
    return uptrain && uptrain->distill ? &*uptrain->distill : nullptr;
  }
};

// All broken rules, those between sections included; pure. Without a world size the rules about
// the number of ranks are left out.
std::vector<RuleViolation> validate(const TrainConfig& config, std::optional<int> world_size);

// What is allowed but hardly meant, such as a window that never acts.
std::vector<RuleViolation> train_config_warnings(const TrainConfig& config);

// Defaults that depend on other keys filled in: groups, head dimension, minimum learning rate, ...
TrainConfig resolved(TrainConfig config);

// Reads, overrides ("section.key=value"), resolves and validates; throws one ConfigurationError
// that says all that is wrong. With uptrain the model section must be absent: the model comes from
// the source.
TrainConfig load_train_config(const std::filesystem::path& path,
                              const std::vector<std::string>& overrides,
                              std::optional<int> world_size);

// Reads back what to_yaml wrote, such as a checkpoint's: every key must be there but those that may
// be null, which an earlier version may not have known.
TrainConfig parse_resolved_config(const std::string& yaml, const std::string& source);

// Every key, with its value, or null where the model has no use for it.
std::string to_yaml(const TrainConfig& config);

}  // namespace polyhead
