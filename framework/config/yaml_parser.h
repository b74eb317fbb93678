// A strict reader for the plain part of YAML that configurations need.
//
// yaml-cpp does the parsing; what it lets pass is refused here, since a file that is read otherwise
// than its author meant trains the wrong model for days: duplicate keys, several documents, lines
// that belong to nothing, anchors, aliases, merge keys, tags, block scalars, tabs, a byte-order
// mark, control characters and invalid UTF-8. Size and depth are bounded before the parser runs,
// and a mapping ends at kMostKeys, so that no file takes longer than a second.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "framework/config/problems.h"
#include "framework/config/yaml_node.h"

namespace polyhead {

inline constexpr std::size_t kLargestConfig = 1 << 20;  // bytes
inline constexpr int kDeepestConfig = 16;               // nested mappings and lists
inline constexpr int kMostKeys = 1000;                  // of one mapping

// Throws ConfigurationError if `path` is not a regular file, cannot be read or is larger than
// kLargestConfig.
std::string read_config_text(const std::filesystem::path& path);

// The tree, or nothing where the text is no YAML. Either way `problems` says all that is wrong.
std::optional<YamlNode> parse_yaml(std::string_view text, const std::string& source,
                                   Problems& problems);

}  // namespace polyhead
