// JSON from files that cannot be trusted.
//
// The parser alone would keep the last of two equal keys and follow any depth of nesting; both are
// refused here, as is everything outside the JSON standard.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace polyhead {

// Throws Error, naming `source`, for text that is not JSON, repeats a key within an object or nests
// deeper than `max_depth` objects and arrays.
nlohmann::json parse_json(std::string_view text, const std::string& source, int max_depth = 16);

}  // namespace polyhead
