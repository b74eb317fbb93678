#include "layers/huggingface/config_fields.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "framework/files/json.h"

namespace polyhead {

nlohmann::json parse_config_object(std::string_view text, const std::string& source) {
  constexpr JsonLimits kLimits{.depth = 8, .bytes = 1 << 20};
  nlohmann::json json = parse_json(text, source, kLimits);
  require(json.is_object(), "{}: must be a JSON object", source);
  return json;
}

ConfigFields::ConfigFields(const nlohmann::json& object, std::string source, std::string prefix)
    : object_(object), source_(std::move(source)), prefix_(std::move(prefix)) {}

const nlohmann::json* ConfigFields::find(std::string_view key) {
  asked_.emplace(key);
  const auto found = object_.find(std::string(key));
  return found == object_.end() || found->is_null() ? nullptr : &*found;
}

std::string ConfigFields::value_text(std::string_view key) const {
  constexpr std::size_t kLongest = 60;
  const auto found = object_.find(std::string(key));
  if (found == object_.end()) return "nothing";
  return excerpt(found->dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), kLongest);
}

std::string ConfigFields::refusal(std::string_view key, const std::string& reason) const {
  return fmt::format("{}: {}{}: got {}; {}", source_, prefix_, excerpt(key), value_text(key),
                     reason);
}

void ConfigFields::refuse(std::string_view key, const std::string& reason) {
  fail("{}", refusal(key, reason));
}

void ConfigFields::refuse_type(std::string_view key, std::string_view wanted) {
  refuse(key, fmt::format("must be {}", wanted));
}

std::optional<std::int64_t> ConfigFields::integer(std::string_view key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const bool fits = value->is_number_integer() &&
                    (!value->is_number_unsigned() || value->get<std::uint64_t>() <= INT64_MAX);
  if (!fits) refuse_type(key, "an integer");
  return value->get<std::int64_t>();
}

std::optional<double> ConfigFields::number(std::string_view key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number() || !std::isfinite(value->get<double>())) refuse_type(key, "a number");
  return value->get<double>();
}

std::optional<bool> ConfigFields::flag(std::string_view key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_boolean()) refuse_type(key, "true or false");
  return value->get<bool>();
}

std::optional<std::string> ConfigFields::text(std::string_view key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) refuse_type(key, "a text");
  return value->get<std::string>();
}

std::optional<std::vector<std::string>> ConfigFields::texts(std::string_view key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr) return std::nullopt;
  const bool fits = value->is_array() &&
                    std::ranges::all_of(*value, [](const auto& item) { return item.is_string(); });
  if (!fits) refuse_type(key, "a list of texts");
  return value->get<std::vector<std::string>>();
}

std::optional<std::vector<std::int64_t>> ConfigFields::integers(std::string_view key) {
  const nlohmann::json* value = find(key);
  if (value == nullptr || !value->is_array()) return std::nullopt;
  const bool fits =
      std::ranges::all_of(*value, [](const auto& item) { return item.is_number_integer(); });
  if (!fits) refuse_type(key, "a list of integers");
  return value->get<std::vector<std::int64_t>>();
}

const nlohmann::json* ConfigFields::object(std::string_view key) {
  const nlohmann::json* value = find(key);
  if (value != nullptr && !value->is_object()) refuse_type(key, "an object");
  return value;
}

std::int64_t ConfigFields::required_integer(std::string_view key) {
  const std::optional<std::int64_t> value = integer(key);
  require(value.has_value(), "{}: {}{} is missing", source_, prefix_, key);
  return *value;
}

double ConfigFields::required_number(std::string_view key) {
  const std::optional<double> value = number(key);
  require(value.has_value(), "{}: {}{} is missing", source_, prefix_, key);
  return *value;
}

void ConfigFields::require_flag(std::string_view key, bool wanted, bool absent,
                                const std::string& reason) {
  if (flag(key).value_or(absent) != wanted) refuse(key, reason);
}

void ConfigFields::read_dropout(std::string_view key, double absent) {
  if (number(key).value_or(absent) == 0 || !dropout_.empty()) return;
  dropout_ = refusal(key, "dropout is not computed in training; set it to 0.0");
}

void ConfigFields::refuse_others(std::span<const std::string_view> harmless,
                                 const std::string& reason) {
  for (const auto& [key, value] : object_.items()) {
    const bool listed = std::ranges::find(harmless, key) != harmless.end();
    const bool private_note = key.starts_with('_');
    if (!value.is_null() && !listed && !private_note && !asked_.contains(key)) refuse(key, reason);
  }
}

}  // namespace polyhead
