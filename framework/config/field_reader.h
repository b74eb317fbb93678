// Reads a tree into configuration structs through their visit_fields, and records every problem:
// unknown, missing, unsupported and doubly spelled keys, and values of the wrong type.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "framework/config/enum_names.h"
#include "framework/config/fields.h"
#include "framework/config/problems.h"
#include "framework/config/yaml_node.h"

namespace polyhead {

enum class ReadMode {
  kUserFile,  // keys that are absent keep their defaults; aliases are accepted
  // As written by write_fields, by this version or an earlier one, which lacks the keys that came
  // later: those that may be null. Every other key is present; no aliases.
  kResolved,
};

// What is common to the sections of one file.
struct ReadContext {
  ReadMode mode;
  std::vector<KnownKey> known;
  Problems& problems;
  std::map<std::string, Place> places = {};  // of every value read, by path
};

class FieldReader {
 public:
  // `node` holds the fields; `section` is its path, empty for the whole file.
  FieldReader(YamlNode& node, std::string section, ReadContext& context);

  template <class T>
  void operator()(std::string_view key, T& value, const FieldOptions& options = {}) {
    YamlEntry* entry = find(key, options);
    if constexpr (Section<T>) {
      YamlNode absent;
      absent.kind = YamlNode::Kind::kMapping;
      absent.place = node_.place;
      if (entry != nullptr || options.required) {
        read_section(entry != nullptr ? entry->value : absent, key, value);
      }
    } else if (entry == nullptr) {
      if (!IsOptional<T>::value || options.required) report_absent(key, options);
    } else {
      read_entry(*entry, key, value);
    }
  }
  // A key of others that Polyhead has no part for: only `neutral` is let pass.
  void unsupported(std::string_view key, std::string_view neutral, std::string_view advice);

  // After all fields: what is left is unknown.
  void report_unknown_keys();

 private:
  // The entry under the key or one of its aliases.
  YamlEntry* find(std::string_view key, const FieldOptions& options);
  void report_absent(std::string_view key, const FieldOptions& options);
  void report_unknown(const YamlEntry& entry);
  std::string path(std::string_view key) const;

  template <class T>
  void read_section(YamlNode& node, std::string_view key, T& value) {
    FieldReader reader(node, path(key), context_);
    visit_fields(reader, value);
    reader.report_unknown_keys();
  }

  template <class T>
  void read_entry(YamlEntry& entry, std::string_view key, T& value) {
    context_.places[path(key)] = entry.value.place;
    try {
      read(entry.value, key, value);
    } catch (const ValueProblem& problem) {
      context_.problems.add(problem.place, path(key), problem.message);
    }
  }

  template <class T>
  void read(YamlNode& node, std::string_view key, T& value) {
    if constexpr (IsOptional<T>::value) {
      if (node.kind == YamlNode::Kind::kNull && !node.text.empty()) {
        value.reset();
      } else if constexpr (Section<typename T::value_type>) {
        read_section(node, key, value.emplace());
      } else {
        read(node, key, value.emplace());
      }
    } else if constexpr (std::is_enum_v<T>) {
      read_enumerator(node, value);
    } else {
      read_value(node, value);
    }
  }

  template <class Enum>
  static void read_enumerator(const YamlNode& node, Enum& value) {
    constexpr auto& kNames = EnumNames<Enum>::kNames;
    value = static_cast<Enum>(
        index_of_name(node, std::vector<std::string>(kNames.begin(), kNames.end())));
  }
  static std::size_t index_of_name(const YamlNode& node, const std::vector<std::string>& names);

  YamlNode& node_;
  std::string section_;
  ReadContext& context_;
  std::set<std::string, std::less<>> read_;  // names as spelled in the file
};

// Lists of anything that read_value reads.
template <class T>
void read_value(const YamlNode& node, std::vector<T>& values) {
  if (node.kind != YamlNode::Kind::kSequence) refuse_value(node, "must be a list, such as [a, b]");
  values.clear();
  for (const YamlNode& item : node.items) read_value(item, values.emplace_back());
}

template <Section T>
void read_fields(YamlNode& root, T& config, ReadContext& context) {
  FieldReader reader(root, "", context);
  visit_fields(reader, config);
  reader.report_unknown_keys();
}

// Puts "section.key=value" into the tree; its problems and places name `--set section.key=value`.
void apply_override(YamlNode& root, const std::string& assignment, ReadContext& context);

}  // namespace polyhead
