// A token per byte, and one that ends a document: a vocabulary of 257 that needs no file.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace polyhead {

class ByteTokenizer {
 public:
  std::vector<std::int32_t> encode(std::string_view text) const {
    std::vector<std::int32_t> tokens;
    tokens.reserve(text.size());
    for (const char byte : text) tokens.push_back(static_cast<unsigned char>(byte));
    return tokens;
  }

  std::string decode(std::span<const std::int32_t> tokens) const {
    std::string text;
    for (const std::int32_t token : tokens) {
      if (token != eod_id()) text.push_back(static_cast<char>(token));
    }
    return text;
  }

  std::string token_bytes(std::int32_t token) const { return decode({&token, 1}); }

  std::int64_t vocab_size() const { return 257; }
  std::int32_t eod_id() const { return 256; }
  std::optional<std::int32_t> bos_id() const { return std::nullopt; }
  std::string fingerprint() const { return "bytes-257"; }
};

}  // namespace polyhead
