// The keys of a config.json, each with its type and the value that its absence stands for. null is
// absence. Remembers which keys were asked for, so that the others can be refused.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/error.h"

namespace polyhead {

// The object that a config.json consists of, bounded in size and depth. Throws Error, naming
// `source`.
nlohmann::json parse_config_object(std::string_view text, const std::string& source);

class ConfigFields {
 public:
  // `object` outlives the fields; `source` is the file, `prefix` what names the object in it
  // ("rope_scaling.").
  ConfigFields(const nlohmann::json& object, std::string source, std::string prefix = "");

  bool has(std::string_view key) { return find(key) != nullptr; }
  // Whether the key is there, be it null: where a class has a default, null is not absence.
  bool contains(std::string_view key) const { return object_.contains(std::string(key)); }
  // All throw Error, naming file, key and value, for a value of another type.
  std::optional<std::int64_t> integer(std::string_view key);
  std::optional<double> number(std::string_view key);
  std::optional<bool> flag(std::string_view key);
  std::optional<std::string> text(std::string_view key);
  std::optional<std::vector<std::string>> texts(std::string_view key);
  // Nothing, too, for what is no list.
  std::optional<std::vector<std::int64_t>> integers(std::string_view key);
  // The object under a key, or nothing.
  const nlohmann::json* object(std::string_view key);
  // Throws Error where the key is absent.
  std::int64_t required_integer(std::string_view key);
  double required_number(std::string_view key);

  // Throws Error: "SOURCE: KEY: got VALUE; REASON".
  [[noreturn]] void refuse(std::string_view key, const std::string& reason);
  // ... unless the flag, where set, or its absence, has the value that Polyhead computes.
  void require_flag(std::string_view key, bool wanted, bool absent, const std::string& reason);
  // A share of activations that the class drops in training, and in training alone.
  void read_dropout(std::string_view key, double absent);
  // Empty where none of them drops any; else which one does, in the words of refuse().
  const std::string& dropout() const { return dropout_; }
  // Throws Error for the first key that was not asked for, is not listed as harmless, does not
  // begin with an underscore, and is set.
  void refuse_others(std::span<const std::string_view> harmless, const std::string& reason);

  const std::string& source() const { return source_; }

 private:
  const nlohmann::json* find(std::string_view key);
  [[noreturn]] void refuse_type(std::string_view key, std::string_view wanted);
  std::string value_text(std::string_view key) const;
  std::string refusal(std::string_view key, const std::string& reason) const;

  const nlohmann::json& object_;
  std::string source_;
  std::string prefix_;
  std::set<std::string, std::less<>> asked_;
  std::string dropout_;
};

}  // namespace polyhead
