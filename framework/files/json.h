// JSON from files that cannot be trusted.
//
// The parser alone would follow any depth of nesting, keep the last of two equal keys and stop at a
// zero byte as if the text ended there; all three are refused here, as is everything outside the
// JSON standard (RFC 8259).
#pragma once

#include <cstddef>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

namespace polyhead {

// What a reader expects at most. A parsed text takes a multiple of its size in memory.
struct JsonLimits {
  int depth = 16;                   // nested objects and arrays
  std::size_t bytes = 100'000'000;  // as many as safetensors allows for its header
};

// The checks that need no parser and no memory: throws Error, naming `source`, for text that is too
// large, nests too deeply or holds a zero byte. One pass.
void check_json_text(std::string_view text, const std::string& source, const JsonLimits& limits);

// Checks the text, then parses it. Throws Error, naming `source`, for what check_json_text refuses,
// for text that is not JSON in UTF-8 and for a key that an object repeats.
nlohmann::json parse_json(std::string_view text, const std::string& source,
                          const JsonLimits& limits = {});

}  // namespace polyhead
