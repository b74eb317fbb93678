#include "scripts/train.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <optional>

#include "framework/buffer.h"
#include "framework/comm/hang.h"
#include "framework/files/durable_file.h"
#include "framework/run/progress.h"
#include "framework/run/run_folder_lock.h"
#include "framework/run/run_log.h"
#include "framework/run/signals.h"
#include "layers/flops.h"
#include "scripts/commands.h"
#include "scripts/peak_rate.h"
#include "scripts/run_start.h"
#include "scripts/start_banner.h"
#include "scripts/trainer.h"

namespace polyhead {
namespace {

double now() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

bool due(std::int64_t step, std::int64_t interval) {
  return interval > 0 && step % interval == 0;
}

// Ends the run when too many skipped updates follow each other.
class SkippedSteps {
 public:
  explicit SkippedSteps(std::int64_t most_in_a_row) : most_in_a_row_(most_in_a_row) {}

  void add(const StepResult& result, std::int64_t step) {
    if (result.problem.empty()) {
      in_a_row_ = 0;
      return;
    }
    ++in_a_row_;
    require(in_a_row_ <= most_in_a_row_,
            "step {}: {}; {} updates in a row were skipped and training.max_consecutive_skipped_"
            "steps is {}: lower optimizer.learning_rate or look at the data, then --resume from "
            "the last checkpoint",
            step, result.problem, in_a_row_, most_in_a_row_);
  }

 private:
  std::int64_t most_in_a_row_;
  std::int64_t in_a_row_ = 0;
};

StepRecord step_record(const Trainer& trainer, const StepResult& result, const Progress& progress,
                       double peak_rate) {
  const TrainConfig& config = trainer.config();
  const auto tokens_per_step =
      static_cast<double>(config.training.global_batch_size * config.data.sequence_length);
  const double speed = tokens_per_step / progress.mean_step_seconds();
  const double rate = speed * training_flops_per_token(config.model, config.data.sequence_length);
  return {.step = trainer.state().step,
          .total_steps = config.training.train_steps,
          .loss = result.loss,
          .distillation_loss = result.distillation_loss,
          .learning_rate = result.learning_rate,
          .gradient_norm = result.gradient_norm,
          .tokens = trainer.state().tokens,
          .seconds = progress.step_seconds(),
          .tokens_per_second = speed,
          .teraflops = rate * 1e-12,
          .share_of_peak = rate / peak_rate,
          .elapsed_seconds = progress.elapsed_seconds(),
          .remaining_seconds = progress.remaining_seconds(),
          .skipped_steps = trainer.state().step - trainer.optimizer().updates(),
          .communication_calls = result.communication.calls,
          .communication_bytes = result.communication.bytes};
}

std::string describe_memory(Device device) {
  const auto peak = static_cast<double>(memory_statistics(device).peak);
  return fmt::format("memory of rank 0: {:.1f} MiB of tensors at the peak of the first step",
                     peak / (1 << 20));
}

std::string describe_communication(const CommunicationCount& count) {
  return fmt::format("communication of rank 0: {:.1f} MiB in {} calls in the first step",
                     static_cast<double>(count.bytes) / (1 << 20), count.calls);
}

void evaluate(Trainer& trainer, RunLog& log) {
  const double begin = now();
  const EvaluationResult result = trainer.evaluate();
  log.evaluation({.step = trainer.state().step,
                  .loss = result.loss,
                  .tokens = result.tokens,
                  .seconds = now() - begin});
}

void save(Trainer& trainer, RunLog& log) {
  const double begin = now();
  const std::filesystem::path folder = trainer.save();
  log.note(trainer.state().step,
           fmt::format("saved {} in {:.1f} s", folder.string(), now() - begin));
}

std::string describe_end(const Trainer& trainer) {
  const TrainConfig& config = trainer.config();
  return fmt::format("step {} of {}: nothing left to do; raise {} to train on",
                     trainer.state().step, config.training.train_steps,
                     config.uptrain ? "uptrain.steps, fraction or tokens" : "training.train_steps");
}

// The life of a run between its start and its end.
void train_steps(Trainer& trainer, RunLog& log, Signals& signals, double peak_rate) {
  const TrainingConfig& training = trainer.config().training;
  const std::int64_t save_interval = trainer.config().checkpoint.save_interval;
  if (trainer.state().step >= training.train_steps) {
    log.note(trainer.state().step, describe_end(trainer));
    return;
  }
  SkippedSteps skipped(training.max_consecutive_skipped_steps);
  const std::int64_t first_step = trainer.state().step + 1;
  Progress progress(first_step, training.train_steps, now());

  while (trainer.state().step < training.train_steps) {
    progress.begin_step(now());
    const StepResult result = trainer.step();
    progress.end_step(now());

    const std::int64_t step = trainer.state().step;
    if (!result.problem.empty()) log.skipped(step, result.problem);
    skipped.add(result, step);
    if (step == first_step) {
      log.note(step, describe_memory(trainer.compute().device));
      log.note(step, describe_communication(result.communication));
    }
    if (due(step, training.log_interval) || step == training.train_steps) {
      log.step(step_record(trainer, result, progress, peak_rate));
    }
    if (due(step, training.eval_interval)) evaluate(trainer, log);
    if (due(step, training.replica_check_interval)) trainer.check_replicas();

    const SignalRequest request = signals.poll(trainer.layout().world);
    if (due(step, save_interval) || step == training.train_steps ||
        request != SignalRequest::kNone) {
      save(trainer, log);
    }
    if (request == SignalRequest::kStop && step < training.train_steps) {
      log.note(step, "stopped by a signal; go on with --resume");
      return;
    }
  }
}

// Gives the trainer its weights; returns what the log is to say of it.
std::vector<std::string> load_weights(const RunStart& start, Trainer& trainer) {
  const std::string from = start.checkpoint.string();
  std::vector<std::string> notes;
  for (const std::string& damage : start.damage) {
    notes.push_back("warning: passed over a checkpoint: " + damage);
  }
  switch (start.kind) {
    case RunStart::Kind::kScratch:
      trainer.initialize();
      break;
    case RunStart::Kind::kUptrain:
      trainer.start_from(start.checkpoint);
      notes.push_back(fmt::format("weights of {}", from));
      break;
    case RunStart::Kind::kResume:
      for (const std::string& change : trainer.resume(start.checkpoint, Hashes::kVerified)) {
        notes.push_back("warning: " + change + "; the continuation may not be bitwise the same");
      }
      notes.push_back(fmt::format("resumed {}", from));
      break;
  }
  if (const Teacher* teacher = trainer.teacher()) {
    const DistillConfig& distill = *trainer.config().distillation();
    notes.push_back(fmt::format("distils from {}, weight {}, temperature {}",
                                teacher->folder().string(), distill.weight, distill.temperature));
  }
  return notes;
}

}  // namespace

void train(const TrainArguments& arguments, const Communicator& world) {
  Signals signals;  // one that comes before the first step is obeyed after it
  const TrainConfig config = load_train_config(arguments.config, arguments.overrides, world.size());
  set_communication_timeout(static_cast<double>(config.parallel.communication_timeout));
  const std::filesystem::path run = config.checkpoint.folder;
  const bool writes = world.rank() == 0;
  std::optional<RunFolderLock> lock;
  run_on_all_ranks(world, [&] {
    if (writes) lock.emplace(run);
  });
  const RunStart start = prepare_run(config, arguments.resume, world);
  Trainer trainer(start.config, world);
  const std::vector<std::string> notes = load_weights(start, trainer);
  trainer.require_free_space();
  const double peak_rate = measured_peak_rate(world, trainer.compute());

  std::optional<RunLog> log;
  run_on_all_ranks(world, [&] {
    const bool resumed = start.kind == RunStart::Kind::kResume;
    log.emplace(run, resumed ? trainer.state().step : RunLog::kNewRun, writes);
    if (writes) replace_durably(run / "config.yaml", trainer.state().config);
  });
  const auto note = [&](const std::string& line) { log->note(trainer.state().step, line); };
  for (const std::string& line : start_banner(trainer, peak_rate)) note(line);
  for (const RuleViolation& warning : train_config_warnings(trainer.config())) {
    note(fmt::format("warning: {}: {}", warning.key, warning.message));
  }
  for (const std::string& line : notes) note(line);
  train_steps(trainer, *log, signals, peak_rate);
}

void add_train_command(CLI::App& app, const Communicator& world) {
  CLI::App* command = app.add_subcommand("train", "Pre-train or uptrain a model");
  const auto arguments = std::make_shared<TrainArguments>();
  command->add_option("config", arguments->config, "The configuration file")->required();
  command->add_option("--set", arguments->overrides, "Override a key: --set training.seed=7")
      ->take_all()
      ->allow_extra_args(false);
  command->add_flag("--resume", arguments->resume,
                    "Go on from the newest good checkpoint in checkpoint.folder");
  command->callback([arguments, &world] { train(*arguments, world); });
}

}  // namespace polyhead
