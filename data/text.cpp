#include "data/text.h"

#include <algorithm>

namespace polyhead {
namespace {

struct CodePoint {
  char32_t value = 0;
  std::size_t bytes = 0;  // 0: not UTF-8
};

// The code point that begins at text[0]; text is not empty.
CodePoint first_code_point(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  if (lead < 0x80) return {lead, 1};
  const std::size_t bytes = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
  if (lead < 0xC0 || lead > 0xF4 || text.size() < bytes) return {};
  char32_t value = lead & (0x7Fu >> bytes);
  for (std::size_t i = 1; i < bytes; ++i) {
    const auto next = static_cast<unsigned char>(text[i]);
    if ((next & 0xC0) != 0x80) return {};
    value = value << 6 | (next & 0x3F);
  }
  constexpr char32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = value >= 0xD800 && value <= 0xDFFF;
  if (value < kSmallest[bytes] || value > 0x10FFFF || surrogate) return {};
  return {value, bytes};
}

// The bytes of the code point that begins with this one; 1 where none does but ASCII.
std::size_t code_point_bytes(unsigned char lead) {
  if (lead < 0xC2 || lead > 0xF4) return 1;
  return lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : 2;
}

// How many bytes could begin a code point, which they do not complete; at least 1. `text` does not
// begin with a code point.
std::size_t maximal_subpart(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t bytes = code_point_bytes(lead);
  // The second byte decides on overlong forms, surrogates and what lies above U+10FFFF.
  unsigned char lowest = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  unsigned char highest = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  std::size_t length = 1;
  for (; length < std::min(bytes, text.size()); ++length) {
    const auto next = static_cast<unsigned char>(text[length]);
    if (next < lowest || next > highest) break;
    lowest = 0x80;
    highest = 0xBF;
  }
  return length;
}

// str.isspace() of Python, which is what \s matches.
bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

}  // namespace

std::optional<std::size_t> find_invalid_utf8(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t bytes = first_code_point(text.substr(at)).bytes;
    if (bytes == 0) return at;
    at += bytes;
  }
  return std::nullopt;
}

std::string replace_invalid_utf8(std::string_view text) {
  std::string mended;
  while (const auto invalid = find_invalid_utf8(text)) {
    mended += text.substr(0, *invalid);
    mended += "\uFFFD";
    text.remove_prefix(*invalid + maximal_subpart(text.substr(*invalid)));
  }
  mended += text;
  return mended;
}

std::size_t unfinished_utf8(std::string_view text) {
  for (std::size_t length = 1; length <= std::min<std::size_t>(3, text.size()); ++length) {
    const std::string_view end = text.substr(text.size() - length);
    const bool begins = code_point_bytes(static_cast<unsigned char>(end[0])) > length;
    if (begins && maximal_subpart(end) == length) return length;
  }
  return 0;
}

std::string_view take_line(std::string_view& text) {
  const std::size_t length = std::min(text.find('\n'), text.size() - 1) + 1;
  const std::string_view line = text.substr(0, length);
  text.remove_prefix(length);
  return line;
}

std::int64_t count_words(std::string_view text) {
  std::int64_t words = 1;
  bool in_space = false;
  while (!text.empty()) {
    const CodePoint point = first_code_point(text);
    const bool space = point.bytes > 0 && is_space(point.value);
    words += space && !in_space;
    in_space = space;
    text.remove_prefix(point.bytes > 0 ? point.bytes : 1);
  }
  return words;
}

std::string_view strip(std::string_view text) {
  while (!text.empty()) {
    const CodePoint point = first_code_point(text);
    if (point.bytes == 0 || !is_space(point.value)) break;
    text.remove_prefix(point.bytes);
  }
  while (!text.empty()) {
    std::size_t begin = text.size() - 1;
    while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
    const CodePoint point = first_code_point(text.substr(begin));
    if (begin + point.bytes != text.size() || !is_space(point.value)) break;
    text.remove_suffix(point.bytes);
  }
  return text;
}

std::int64_t count_space_separated(std::string_view text) {
  const std::string_view words = strip(text);
  return 1 + std::count(words.begin(), words.end(), ' ');
}

}  // namespace polyhead
