#include "framework/files/json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "framework/error.h"

namespace polyhead {

void check_json_text(std::string_view text, const std::string& source, const JsonLimits& limits) {
  require(text.size() <= limits.bytes, "{}: {} bytes of JSON, at most {} are read", source,
          text.size(), limits.bytes);
  int depth = 0;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\0') fail("{}: byte {} is zero, which JSON has none of", source, i);
    if (c == '"') {
      in_string = !in_string;
    } else if (in_string) {
      if (c == '\\') ++i;
    } else if (c == '{' || c == '[') {
      if (++depth > limits.depth) {
        fail("{}: JSON nests deeper than {} levels", source, limits.depth);
      }
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
}

nlohmann::json parse_json(std::string_view text, const std::string& source,
                          const JsonLimits& limits) {
  constexpr std::size_t kLongestReason = 300;
  using Event = nlohmann::json::parse_event_t;
  check_json_text(text, source, limits);
  std::vector<std::set<std::string>> open_objects;
  const auto refuse_duplicates = [&](int, Event event, nlohmann::json& value) {
    if (event == Event::object_start) open_objects.emplace_back();
    if (event == Event::object_end) open_objects.pop_back();
    if (event == Event::key) {
      const auto& key = value.get_ref<const std::string&>();
      require(open_objects.back().insert(key).second, "{}: the key '{}' appears twice", source,
              excerpt(key));
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), refuse_duplicates);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not valid JSON: {}", source, excerpt(error.what(), kLongestReason));
  }
}

}  // namespace polyhead
