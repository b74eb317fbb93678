// polyhead train CONFIG [--set section.key=value ...] [--resume]
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/comm/communicator.h"

namespace polyhead {

struct TrainArguments {
  std::filesystem::path config;
  std::vector<std::string> overrides;  // "training.train_steps=10"
  bool resume = false;                 // go on from the newest good checkpoint of the run folder
};

// Pre-trains or uptrains, until the last step or a signal. Collective.
void train(const TrainArguments& arguments, const Communicator& world);

}  // namespace polyhead
