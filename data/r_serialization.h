// R's XDR serialisation of data: a small part of it, enough for the index of a lazy-load database
// and for character vectors (R Internals, section 1.8).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace polyhead {

// One R object; only the member that its type calls for is filled.
struct RValue {
  std::vector<std::int32_t> integers;  // integer and logical vectors
  std::vector<std::string> strings;    // character vectors; NA reads as ""
  std::vector<RValue> elements;        // lists
  std::vector<std::string> names;      // of a vector's elements, where it has any
};

// Throws Error, naming `source`, for what is not such data, breaks off, or nests too deep.
RValue parse_r_serialization(std::string_view bytes, const std::string& source);

}  // namespace polyhead
