// What changed between the configuration that a checkpoint was written with and the one it is
// resumed with, and which of it a run cannot take.
#pragma once

#include <string>
#include <vector>

#include "scripts/train_config.h"

namespace polyhead {

struct ConfigChange {
  std::string key;  // "model.num_query_groups"
  std::string before;
  std::string after;

  std::string describe() const;  // "model.num_query_groups: 8 became 2"
};

// Every key whose resolved value differs, in the order of the file.
std::vector<ConfigChange> config_changes(const TrainConfig& before, const TrainConfig& after);

// Whether sample n of one configuration is that of the other, on the same datasets in the same
// order.
bool same_samples(const TrainConfig& before, const TrainConfig& after);

// Throws one ConfigurationError that names every change under which the checkpoint would not be
// continued but mixed with another run: the model, and what decides which tokens sample n holds.
// Returns the others.
std::vector<ConfigChange> require_same_run(const TrainConfig& before, const TrainConfig& after);

}  // namespace polyhead
