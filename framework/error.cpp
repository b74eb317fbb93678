#include "framework/error.h"

#include <algorithm>
#include <cstdio>

namespace polyhead {

std::string excerpt(std::string_view text, std::size_t longest) {
  const auto continues = [](char c) { return (static_cast<unsigned char>(c) & 0xC0) == 0x80; };
  std::size_t end = std::min(longest, text.size());
  while (end > 0 && end < text.size() && continues(text[end])) --end;
  std::string shown(text.substr(0, end));
  const auto controls = [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; };
  std::replace_if(shown.begin(), shown.end(), controls, '?');
  return end < text.size() ? shown + "..." : shown;
}

void print_error(const std::string& message) {
  fmt::print(stderr, "polyhead: error: {}\n", message);
  std::fflush(stderr);
}

namespace internal {

void check_failed(const char* file, int line, const char* condition, const std::string& message) {
  throw std::logic_error(
      fmt::format("{}:{}: internal check failed: {} ({})", file, line, message, condition));
}

}  // namespace internal
}  // namespace polyhead
