// The alphabet of byte-level tokenizers: GPT-2 writes each byte of UTF-8 as a printable character,
// so that a vocabulary of arbitrary bytes is text (bytes_to_unicode in the encoder.py of GPT-2,
// Radford et al. 2019). Bytes that are printable in Latin-1 stand for themselves; the other 68 are
// U+0100, U+0101, ... in their order, so that a space is U+0120.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace polyhead {

// In UTF-8.
std::string byte_level_character(unsigned char byte);

// The bytes that the characters of a token stand for; none where one is not of the alphabet.
std::optional<std::string> byte_level_bytes(std::string_view token);

}  // namespace polyhead
