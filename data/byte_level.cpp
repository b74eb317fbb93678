#include "data/byte_level.h"

#include <array>

namespace polyhead {
namespace {

constexpr int kFirstOther = 0x100;
constexpr int kOthers = 68;
constexpr int kNoByte = -1;

constexpr bool printable(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte != 0xAD);
}

struct Alphabet {
  std::array<int, 256> characters{};
  std::array<int, kFirstOther + kOthers> bytes{};
};

constexpr Alphabet make_alphabet() {
  Alphabet alphabet;
  for (int& byte : alphabet.bytes) byte = kNoByte;
  int others = 0;
  for (int byte = 0; byte < 256; ++byte) {
    const int character = printable(byte) ? byte : kFirstOther + others++;
    alphabet.characters[static_cast<std::size_t>(byte)] = character;
    alphabet.bytes[static_cast<std::size_t>(character)] = byte;
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = make_alphabet();

}  // namespace

std::string byte_level_character(unsigned char byte) {
  const int character = kAlphabet.characters[byte];
  if (character < 0x80) return {static_cast<char>(character)};
  return {static_cast<char>(0xC0 | character >> 6), static_cast<char>(0x80 | (character & 0x3F))};
}

std::optional<std::string> byte_level_bytes(std::string_view token) {
  std::string bytes;
  for (std::size_t i = 0; i < token.size(); ++i) {
    std::size_t character = static_cast<unsigned char>(token[i]);
    if (character >= 0x80) {
      // Longer sequences lie above the alphabet.
      if ((character & 0xE0) != 0xC0 || ++i == token.size()) return std::nullopt;
      character = (character & 0x1F) << 6 | (static_cast<unsigned char>(token[i]) & 0x3F);
    }
    if (character >= kAlphabet.bytes.size() || kAlphabet.bytes[character] == kNoByte) {
      return std::nullopt;
    }
    bytes.push_back(static_cast<char>(kAlphabet.bytes[character]));
  }
  return bytes;
}

}  // namespace polyhead
