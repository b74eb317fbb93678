// The bytes of a safetensors file from the text of its header, right or wrong.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

namespace polyhead::testing {

inline std::string safetensors_file(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t size = header.size();
  std::string prefix(sizeof(size), '\0');
  std::memcpy(prefix.data(), &size, sizeof(size));
  return prefix + header + std::string(data_bytes, '\x01');
}

}  // namespace polyhead::testing
