#include "scripts/run_start.h"

#include "framework/checkpoint/checkpoint_folder.h"
#include "scripts/model_source.h"
#include "scripts/rank_0.h"
#include "scripts/uptraining.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

fs::path find_source(const std::string& source) {
  try {
    return is_plain_model_folder(source) ? fs::path(source) : resolve_checkpoint(source);
  } catch (const Error& error) {
    fail("uptrain.source: {}", error.what());
  }
}

void require_valid(const TrainConfig& config, int ranks) {
  std::string problems;
  for (const RuleViolation& violation : validate(config, ranks)) {
    problems += fmt::format("\n  {}: {}", violation.key, violation.message);
  }
  if (problems.empty()) return;
  throw ConfigurationError(fmt::format("uptrain.source: {} does not fit this configuration:{}",
                                       config.uptrain->source, problems));
}

TrainConfig saved_config(const TrainerState& state, const fs::path& checkpoint) {
  return parse_resolved_config(state.config, (checkpoint / "trainer.json").string());
}

}  // namespace

RunStart prepare_run(TrainConfig config, bool resume, const Communicator& world) {
  const fs::path run = config.checkpoint.folder;
  const bool has_checkpoints = !checkpoint_steps(run).empty();
  require(
      resume || !has_checkpoints,
      "checkpoint.folder: {} holds the checkpoints of a run; continue it with --resume, or name "
      "another folder",
      run.string());
  require(!resume || has_checkpoints,
          "--resume: {} holds no checkpoint; start without --resume, or correct checkpoint.folder",
          run.string());

  RunStart start;
  start.config = std::move(config);
  if (resume) {
    start.kind = RunStart::Kind::kResume;
    start.checkpoint = told_by_rank_0(world, [&] {
      return newest_good_checkpoint(
          run, [&](const std::string& problem) { start.damage.push_back(problem); });
    });
  } else if (start.config.uptrain) {
    start.kind = RunStart::Kind::kUptrain;
    start.checkpoint =
        told_by_rank_0(world, [&] { return find_source(start.config.uptrain->source); });
  }
  if (start.config.uptrain && is_plain_model_folder(start.checkpoint)) {
    const ModelSource source = open_model_source(start.checkpoint);
    require(source.dropout.empty(), "uptrain.source: {}", source.dropout);
    start.config = complete_uptraining(std::move(start.config), source.model);
    require_valid(start.config, world.size());
  } else if (start.config.uptrain) {
    const TrainerState state = read_trainer_state(start.checkpoint);
    const TrainConfig source = saved_config(state, start.checkpoint);
    // A resumed run takes from its own checkpoint what its source decided when it began.
    start.config = complete_uptraining(std::move(start.config), source,
                                       resume ? first_uptraining_step(source) : state.step);
    require_valid(start.config, world.size());
  }
  return start;
}

}  // namespace polyhead
