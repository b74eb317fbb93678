// Names of enumerators in configuration files, in the order of their values.
//
//   template <>
//   struct EnumNames<RopeType> {
//     static constexpr std::array kNames = {"rope", "yarn", "llama3"};
//   };
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <string>
#include <string_view>

namespace polyhead {

template <class Enum>
struct EnumNames;

template <class Enum>
constexpr std::string_view enum_name(Enum value) {
  return EnumNames<Enum>::kNames[static_cast<std::size_t>(value)];
}

template <class Enum>
std::map<std::string, Enum> values_by_name() {
  std::map<std::string, Enum> values;
  for (const std::string_view name : EnumNames<Enum>::kNames) {
    values.emplace(name, static_cast<Enum>(values.size()));
  }
  return values;
}

}  // namespace polyhead
