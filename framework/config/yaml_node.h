// A configuration file after the parser: a tree in which every node knows its place.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "framework/config/problems.h"

namespace polyhead {

struct YamlEntry;

struct YamlNode {
  enum class Kind { kNull, kScalar, kSequence, kMapping };

  Kind kind = Kind::kNull;
  Place place;
  std::string text;                // scalars; of null: as it was spelled, empty for no value at all
  bool quoted = false;             // "8" is text, 8 a number
  std::vector<YamlNode> items;     // sequences
  std::vector<YamlEntry> entries;  // mappings, in the order of the file; names are unique

  YamlEntry* find(std::string_view name);
  // What a message shows after "got".
  std::string shown() const;
};

struct YamlEntry {
  std::string name;
  Place place;
  YamlNode value;
};

// A value that cannot be read as its field's type.
struct ValueProblem {
  Place place;
  std::string message;
};
[[noreturn]] void refuse_value(const YamlNode& node, const std::string& rule);

// Each throws ValueProblem where the node is not exactly of the type. Integers are decimal, without
// leading zeros; numbers are finite; booleans are true or false.
void read_value(const YamlNode& node, std::int64_t& value);
void read_value(const YamlNode& node, double& value);
void read_value(const YamlNode& node, bool& value);
void read_value(const YamlNode& node, std::string& value);

// The text that read_value turns back into the same value.
std::string yaml_text(std::int64_t value);
std::string yaml_text(double value);
std::string yaml_text(bool value);
std::string yaml_text(const std::string& value);

}  // namespace polyhead
