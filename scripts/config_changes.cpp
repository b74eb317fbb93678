#include "scripts/config_changes.h"

#include <algorithm>
#include <sstream>

#include "data/blend.h"
#include "framework/error.h"

namespace polyhead {
namespace {

struct Line {
  std::string key;
  std::string value;
};

// to_yaml writes one line per key, indented by two under its section.
std::vector<Line> lines_of(const TrainConfig& config) {
  std::vector<Line> lines;
  std::istringstream text(to_yaml(config));
  std::vector<std::string> sections;  // of the line, outermost first
  for (std::string line; std::getline(text, line);) {
    const std::size_t begin = line.find_first_not_of(' '), colon = line.find(':', begin);
    const std::string name = line.substr(begin, colon - begin);
    const std::string value = line.size() > colon + 2 ? line.substr(colon + 2) : "";
    sections.resize(begin / 2);
    sections.push_back(name);
    lines.push_back({fmt::format("{}", fmt::join(sections, ".")), value});
  }
  return lines;
}

std::vector<double> shares_of(const std::vector<DataSource>& sources) {
  std::vector<double> weights;
  for (const DataSource& source : sources) weights.push_back(source.weight);
  return normalized(weights);
}

// Whether a changed key decides which tokens sample n holds, and which of them are learnt. Paths of
// data may change, the data may not: their fingerprints are compared apart.
bool decides_samples(const std::string& key, const TrainConfig& before, const TrainConfig& after) {
  if (key == "data.train") return shares_of(before.data.train) != shares_of(after.data.train);
  if (key == "data.sequence_length" || key == "data.sample_order" || key == "data.split" ||
      key == "data.eod_mask_loss" || key == "data.attend_across_documents" ||
      key == "training.seed") {
    return true;
  }
  // Megatron's order is made for one number of samples.
  return before.data.sample_order == SampleOrder::kMegatron &&
         (key == "training.train_steps" || key == "training.global_batch_size");
}

}  // namespace

std::string ConfigChange::describe() const {
  return fmt::format("{}: {} became {}", key, before, after);
}

std::vector<ConfigChange> config_changes(const TrainConfig& before, const TrainConfig& after) {
  const std::vector<Line> old_lines = lines_of(before), new_lines = lines_of(after);
  const auto value_in = [](const std::vector<Line>& lines, const std::string& key) {
    const auto found = std::ranges::find(lines, key, &Line::key);
    return found == lines.end() ? "null" : found->value;
  };
  std::vector<ConfigChange> changes;
  for (const Line& line : new_lines) {
    const std::string old_value = value_in(old_lines, line.key);
    if (old_value != line.value) changes.push_back({line.key, old_value, line.value});
  }
  return changes;
}

bool same_samples(const TrainConfig& before, const TrainConfig& after) {
  return std::ranges::none_of(config_changes(before, after), [&](const ConfigChange& change) {
    return decides_samples(change.key, before, after);
  });
}

std::vector<ConfigChange> require_same_run(const TrainConfig& before, const TrainConfig& after) {
  std::string refused;
  std::vector<ConfigChange> allowed;
  for (ConfigChange& change : config_changes(before, after)) {
    if (change.key.starts_with("model.") || decides_samples(change.key, before, after)) {
      refused += "\n  " + change.describe();
    } else {
      allowed.push_back(std::move(change));
    }
  }
  if (refused.empty()) return allowed;
  throw ConfigurationError(
      fmt::format("--resume: the configuration is not that of the checkpoint:{}\nput the values "
                  "back, or train in another checkpoint.folder",
                  refused));
}

}  // namespace polyhead
