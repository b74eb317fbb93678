#include "framework/config/yaml_node.h"

#include <algorithm>
#include <charconv>
#include <cmath>

#include "framework/error.h"

namespace polyhead {

namespace {

bool is_digit(char c) {
  return '0' <= c && c <= '9';
}

// The digits of a plain scalar without its sign, or empty for anything but a decimal integer.
std::string_view integer_digits(const YamlNode& node) {
  std::string_view digits = node.text;
  if (!digits.empty() && digits.front() == '-') digits.remove_prefix(1);
  return std::all_of(digits.begin(), digits.end(), is_digit) ? digits : std::string_view();
}

void require_plain_scalar(const YamlNode& node, const std::string& rule) {
  if (node.kind != YamlNode::Kind::kScalar) refuse_value(node, rule);
  if (node.quoted) refuse_value(node, rule + "; remove the quotes");
}

// fmt 9 and std::from_chars agree on the shortest text that reads back the same.
template <class T>
std::from_chars_result parse_all(std::string_view text, T& value) {
  std::from_chars_result result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec == std::errc() && result.ptr != text.data() + text.size()) {
    result.ec = std::errc::invalid_argument;
  }
  return result;
}

}  // namespace

YamlEntry* YamlNode::find(std::string_view name) {
  for (YamlEntry& entry : entries) {
    if (entry.name == name) return &entry;
  }
  return nullptr;
}

std::string YamlNode::shown() const {
  constexpr std::size_t kLongest = 60;
  switch (kind) {
    case Kind::kNull:
      return text.empty() ? "no value" : text;
    case Kind::kSequence:
      return "a list";
    case Kind::kMapping:
      return "a mapping";
    case Kind::kScalar:
      break;
  }
  const std::string start = excerpt(text, kLongest);
  return quoted || text.empty() ? "\"" + start + "\"" : start;
}

void refuse_value(const YamlNode& node, const std::string& rule) {
  throw ValueProblem{node.place, "got " + node.shown() + "; " + rule};
}

void read_value(const YamlNode& node, std::int64_t& value) {
  const std::string rule = "must be an integer";
  require_plain_scalar(node, rule);
  const std::string_view digits = integer_digits(node);
  if (digits.empty()) refuse_value(node, rule + " in decimal digits, such as 1024");
  if (digits.size() > 1 && digits.front() == '0') {
    refuse_value(node, rule + " without leading zeros, which some readers take for octal");
  }
  if (parse_all(node.text, value).ec != std::errc()) refuse_value(node, rule + " of 64 bits");
}

void read_value(const YamlNode& node, double& value) {
  const std::string rule = "must be a number";
  require_plain_scalar(node, rule);
  const std::string_view digits = integer_digits(node);
  if (digits.size() > 1 && digits.front() == '0')
    refuse_value(node, rule + " without leading zeros");
  if (parse_all(node.text, value).ec != std::errc() || !std::isfinite(value)) {
    refuse_value(node, rule + ", finite, such as 0.1 or 1.0e-3");
  }
}

void read_value(const YamlNode& node, bool& value) {
  const std::string rule = "must be true or false";
  require_plain_scalar(node, rule);
  if (node.text != "true" && node.text != "false") refuse_value(node, rule);
  value = node.text == "true";
}

void read_value(const YamlNode& node, std::string& value) {
  if (node.kind != YamlNode::Kind::kScalar) refuse_value(node, "must be text");
  value = node.text;
}

std::string yaml_text(std::int64_t value) {
  return fmt::format("{}", value);
}

std::string yaml_text(double value) {
  return fmt::format("{}", value);
}

std::string yaml_text(bool value) {
  return value ? "true" : "false";
}

std::string yaml_text(const std::string& value) {
  std::string text = "\"";
  for (const char c : value) {
    if (c == '"' || c == '\\') text += '\\';
    if (c == '\n') {
      text += "\\n";
    } else if (c == '\t') {
      text += "\\t";
    } else {
      text += c;
    }
  }
  return text + "\"";
}

}  // namespace polyhead
