// What a run begins with, decided before anything is built.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/comm/communicator.h"
#include "scripts/train_config.h"

namespace polyhead {

struct RunStart {
  enum class Kind {
    kScratch,  // random weights
    kUptrain,  // the weights of another run's checkpoint, which `checkpoint` is
    kResume,   // `checkpoint` of this run
  };
  Kind kind = Kind::kScratch;
  TrainConfig config;  // complete: of uptraining too
  std::filesystem::path checkpoint;
  std::vector<std::string> damage;  // newer checkpoints that were passed over; on rank 0
};

// Collective; call it with the run folder locked. Throws Error where a run would be overwritten
// (checkpoints and no `resume`), and where a checkpoint that was asked for is missing or damaged:
// nothing ever starts from random weights in its place.
RunStart prepare_run(TrainConfig config, bool resume, const Communicator& world);

}  // namespace polyhead
