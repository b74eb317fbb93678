// Rules that a configuration must keep, collected instead of thrown: a user mends all problems of a
// file at once.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace polyhead {

// A broken rule: `key` is the YAML key to blame, the message has the values and the fix.
struct RuleViolation {
  std::string key;
  std::string message;
};

// Collects what does not hold, one call per rule.
class Rules {
 public:
  // `section` stands before every key: "model" blames "model.num_layers".
  explicit Rules(std::string section = "")
      : prefix_(section.empty() ? "" : std::move(section) + ".") {}

  template <class... Args>
  void require(bool holds, const std::string& key, fmt::format_string<Args...> format,
               Args&&... args) {
    if (!holds) {
      violations_.push_back({prefix_ + key, fmt::format(format, std::forward<Args>(args)...)});
    }
  }
  // For a key that the chosen variant would ignore; `reason` says who reads it, and the fix.
  template <class T>
  void forbid(const std::optional<T>& value, const std::string& key, std::string_view reason) {
    if (value) require(false, key, "got {}; {}", *value, reason);
  }
  // smallest <= value <= largest.
  void require_range(std::int64_t value, const std::string& key, std::int64_t smallest,
                     std::int64_t largest) {
    require(smallest <= value && value <= largest, key, "got {}; must lie in {} to {}", value,
            smallest, largest);
  }
  void require_positive(double value, const std::string& key) {
    require(value > 0, key, "got {}; must be greater than 0", value);
  }

  bool all_hold() const { return violations_.empty(); }
  const std::vector<RuleViolation>& violations() const { return violations_; }

 private:
  std::string prefix_;
  std::vector<RuleViolation> violations_;
};

// "1, 2, 4 or 8": the divisors of a number, for the fix at the end of a message.
std::string divisors_of(std::int64_t number);

}  // namespace polyhead
