// Trainer: everything a run consists of, and the steps of its life. The loop is in train.cpp.
//
// All ranks of `world` make one with the same configuration and call the same methods in the same
// order. The loss and the update depend neither on how many ranks share the work nor on the
// micro-batch size, but for rounding.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/training_data.h"
#include "framework/checkpoint/checkpoint.h"
#include "framework/parameters/parameter_store.h"
#include "framework/recorded_work.h"
#include "layers/huggingface/special_tokens.h"
#include "layers/model.h"
#include "optim/learning_rate.h"
#include "optim/optimizer.h"
#include "scripts/compute.h"
#include "scripts/rank_layout.h"
#include "scripts/teacher.h"
#include "scripts/train_config.h"

namespace polyhead {

struct StepResult {
  double loss = 0;  // cross-entropy, mean over the valid tokens of the global batch
  std::optional<double> distillation_loss = {};  // the same of the divergence; with a teacher
  double gradient_norm = 0;
  double learning_rate = 0;
  CommunicationCount communication = {};  // of this rank in this step
  std::string problem;                    // why the update was skipped; empty: it was made
};

struct EvaluationResult {
  double loss = 0;          // mean over the scored tokens
  std::int64_t tokens = 0;  // scored
};

class Trainer {
 public:
  // Opens the datasets, makes the model, and reads the teacher if there is one. The model's weights
  // are zero until one of the next three was called. `config` is resolved and valid for the world.
  Trainer(const TrainConfig& config, const Communicator& world);

  // Random weights from the seed, step 0.
  void initialize();
  // Goes on where a checkpoint of this run stopped. Throws Error, naming what changed, where the
  // model or the data are others. Returns what else changed; if empty, the continuation is bitwise
  // that of a run that never stopped.
  std::vector<std::string> resume(const std::filesystem::path& checkpoint,
                                  Hashes hashes = Hashes::kVerify);
  // Weights, and moments where there are any, of another run's checkpoint, whose steps are counted
  // on, or the weights of another program's model folder, which has none. Its samples are counted
  // on where sample n is the same here; Megatron's order, which is made for one run, begins anew.
  // What special tokens the folder names, checkpoints of this run name, too.
  void start_from(const std::filesystem::path& checkpoint);

  // One global batch and one update, unless the loss or a gradient is not finite: then weights and
  // moments stay as they were, on all ranks alike.
  StepResult step();
  // The mean loss on the validation data, which there are where training.eval_interval is set.
  EvaluationResult evaluate();
  // Writes a checkpoint of this step into the run folder, then removes those that are not to be
  // kept.
  std::filesystem::path save();
  // Throws Error, naming tensor and ranks, if copies of a weight have drifted apart.
  void check_replicas();
  // Throws Error if the disk has no room for the checkpoints that are still to come and will lie
  // there at once.
  void require_free_space() const;

  const TrainConfig& config() const { return config_; }
  const RankLayout& layout() const { return layout_; }
  const TrainingData& data() const { return data_; }
  const TrainerState& state() const { return state_; }
  const Teacher* teacher() const { return teacher_.get(); }
  const Compute& compute() const { return compute_; }
  ParameterStore& store() { return store_; }
  AdamW& optimizer() { return optimizer_; }
  const AdamW& optimizer() const { return optimizer_; }

 private:
  // Fixes the algorithms of matrix products, before the first step.
  void settle_products();
  // Which ranks made which number that is not finite. Computes the gradients once more, with the
  // same weights: a step that goes well need not look.
  std::string explain_skipped_update(const Batch& batch, double weight);
  // Returns weight * the sums of the losses of this rank's micro-batches, as loss_.
  // `on_final` is told of gradients to which no micro-batch will add any more.
  Tensor forward_backward(const Batch& batch, double weight,
                          const Model::GradientsFinal& on_final = nullptr);
  // Takes this rank's samples of the step to where they lie at every step; returns how many of
  // their targets count.
  double load_batch();
  // All of a step that the device does, but for begin_update(): from the samples to the weights.
  void compute_step(double weight);
  // The same, by playing what was recorded: from the second step on, for all first uses are behind.
  void play_step(double weight);
  // Of this rank so far.
  CommunicationCount communication() const {
    return layout_.world.counters().total() + played_communication_;
  }
  std::vector<NamedState> moments() const;
  TrainerState load(const std::filesystem::path& checkpoint, std::vector<NamedState> states,
                    Hashes hashes);
  void inherit_special_tokens(const std::filesystem::path& folder);
  // What was inherited, and the end of a document in the data as one more end.
  SpecialTokens saved_special_tokens() const;

  Compute compute_;
  RankLayout layout_;
  TensorParallel parallel_;
  TrainingData data_;
  TrainConfig config_;  // knows its vocab_size
  std::optional<TrainingData> validation_;
  Model model_;
  ParameterStore store_;
  std::unique_ptr<const Teacher> teacher_;  // with uptrain.distill
  AdamW optimizer_;
  LearningRateSchedule schedule_;
  TrainerState state_;
  SpecialTokens special_tokens_;  // of the folder that the weights come from
  bool products_settled_ = false;

  Batch batch_;            // of the step, on the device
  Tensor loss_;            // of the step, (1) f64; (2) with a teacher, the divergence behind
  Tensor squared_norm_;    // of its gradient, (1) f64; NaN where that or the loss is not finite
  bool computed_ = false;  // a step, by this object
  std::unique_ptr<RecordedWork> recording_;  // with training.cuda_graph
  double recorded_weight_ = 0;
  CommunicationCount recorded_communication_, played_communication_;  // of a step; of all plays
};

}  // namespace polyhead
