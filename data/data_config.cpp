#include "data/data_config.h"

#include <algorithm>
#include <sstream>

#include "framework/error.h"

namespace polyhead {

void read_value(const YamlNode& node, DataSource& source) {
  if (node.kind == YamlNode::Kind::kScalar) return read_value(node, source.path);
  if (node.kind != YamlNode::Kind::kMapping) {
    refuse_value(node, "must be a path, or {path: PREFIX, weight: NUMBER}");
  }
  for (const YamlEntry& entry : node.entries) {
    if (entry.name == "path") {
      read_value(entry.value, source.path);
    } else if (entry.name == "weight") {
      read_value(entry.value, source.weight);
    } else {
      throw ValueProblem{entry.place,
                         "unknown key " + entry.name + "; a source has a path and a weight"};
    }
  }
}

std::string yaml_text(const DataSource& source) {
  return fmt::format("{{path: {}, weight: {}}}", yaml_text(source.path), yaml_text(source.weight));
}

namespace {

void check_sources(const std::vector<DataSource>& sources, const std::string& key, Rules& rules) {
  for (const DataSource& source : sources) {
    rules.require(!source.path.empty(), key, "a source has no path; give the path without .bin");
    rules.require(source.weight > 0, key, "got weight {} for {}; must be greater than 0",
                  source.weight, source.path);
  }
}

// Up to three numbers that are not negative, the first greater than 0.
bool is_split(const std::string& text) {
  std::stringstream stream(text);
  std::string part;
  int parts = 0;
  while (std::getline(stream, part, ',')) {
    YamlNode node;
    node.kind = YamlNode::Kind::kScalar;
    node.text = part;
    double share = -1;
    try {
      read_value(node, share);
    } catch (const ValueProblem&) {
      return false;
    }
    if (share < 0 || (parts == 0 && share == 0)) return false;
    ++parts;
  }
  return 1 <= parts && parts <= 3 && text.back() != ',';
}

}  // namespace

std::vector<RuleViolation> data_rule_violations(const DataConfig& c) {
  constexpr std::int64_t kLongestContext = 1 << 24;
  Rules rules("data");
  rules.require(!c.train.empty(), "train", "lists no source; give the path of a tokenized text");
  check_sources(c.train, "train", rules);
  check_sources(c.validation, "validation", rules);
  rules.require_range(c.sequence_length, "sequence_length", 1, kLongestContext);
  if (!c.validation.empty()) {
    rules.forbid(c.split, "split", "validation has sources of its own; delete split or validation");
  }
  rules.require(!c.split || is_split(*c.split), "split",
                "got {}; must be up to three shares for training, validation and test, such as "
                "\"969,30,1\"",
                c.split.value_or(""));
  return rules.violations();
}

}  // namespace polyhead
