// One object of a JSON file and the types of its fields.
#pragma once

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>
#include <type_traits>
#include <utility>

#include "framework/error.h"

namespace polyhead {

// Every error names `where`, the file and the place in it, and the key, and ends with `advice`.
class JsonObject {
 public:
  JsonObject(const nlohmann::json& object, std::string where, std::string advice = "")
      : object_(object), where_(std::move(where)), advice_(std::move(advice)) {
    require(object_.is_object(), "{}: expected an object{}", where_, advice_);
  }

  bool has(const char* key) const { return object_.contains(key); }

  const nlohmann::json& at(const char* key) const {
    const auto found = object_.find(key);
    require(found != object_.end(), "{}: {} is missing{}", where_, key, advice_);
    return *found;
  }

  // A string, a boolean or a non-negative integer that T can hold, exactly: 1.0 is no integer.
  template <class T>
  void read(const char* key, T& value) const {
    const nlohmann::json& field = at(key);
    if constexpr (std::is_same_v<T, std::string>) {
      require(field.is_string(), "{}: {} must be a string{}", where_, key, advice_);
    } else if constexpr (std::is_same_v<T, bool>) {
      require(field.is_boolean(), "{}: {} must be true or false{}", where_, key, advice_);
    } else {
      constexpr auto kLargest = static_cast<std::uint64_t>(std::numeric_limits<T>::max());
      require(field.is_number_unsigned() && field.get<std::uint64_t>() <= kLargest,
              "{}: {} must be a non-negative integer of at most {}{}", where_, key, kLargest,
              advice_);
    }
    field.get_to(value);
  }

  JsonObject object(const char* key) const {
    return {at(key), fmt::format("{}: {}", where_, key), advice_};
  }

 private:
  const nlohmann::json& object_;
  std::string where_;
  std::string advice_;
};

}  // namespace polyhead
