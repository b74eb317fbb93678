#include "framework/files/json.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

#include "framework/error.h"

namespace polyhead {

nlohmann::json parse_json(std::string_view text, const std::string& source, int max_depth) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> open_objects;
  const auto guard = [&](int depth, Event event, nlohmann::json& value) {
    if (event == Event::object_start || event == Event::array_start) {
      require(depth < max_depth, "{}: JSON nests deeper than {} levels", source, max_depth);
    }
    if (event == Event::object_start) open_objects.emplace_back();
    if (event == Event::object_end) open_objects.pop_back();
    if (event == Event::key) {
      const auto& key = value.get_ref<const std::string&>();
      require(open_objects.back().insert(key).second, "{}: the key '{}' appears twice", source,
              key);
    }
    return true;
  };
  try {
    return nlohmann::json::parse(text.begin(), text.end(), guard);
  } catch (const nlohmann::json::exception& error) {
    fail("{}: not valid JSON: {}", source, error.what());
  }
}

}  // namespace polyhead
