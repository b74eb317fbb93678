#include "data/nfc.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <vector>

#include "framework/error.h"

namespace polyhead {
namespace {

using CodePoints = std::vector<utf8proc_int32_t>;

constexpr auto kForm = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);

utf8proc_propval_t combining_class(utf8proc_int32_t point) {
  return utf8proc_get_property(point)->combining_class;
}

void append_decomposed(utf8proc_int32_t point, CodePoints& points) {
  std::array<utf8proc_int32_t, 8> parts;  // at most 4 are needed
  const auto count = utf8proc_decompose_char(
      point, parts.data(), static_cast<utf8proc_ssize_t>(parts.size()), kForm, nullptr);
  POLYHEAD_CHECK(count >= 0 && count <= static_cast<utf8proc_ssize_t>(parts.size()),
                 "decomposition of U+{:04X}: {}", point, count);
  points.insert(points.end(), parts.begin(), parts.begin() + count);
}

// utf8proc_map would sort by insertion, which takes quadratic time where marks follow marks.
void order_marks(CodePoints& points) {
  for (auto at = points.begin(); at != points.end();) {
    const auto end =
        std::find_if(at, points.end(), [](auto point) { return combining_class(point) == 0; });
    std::stable_sort(at, end,
                     [](auto a, auto b) { return combining_class(a) < combining_class(b); });
    at = end == points.end() ? end : end + 1;
  }
}

}  // namespace

std::string to_nfc(std::string_view text) {
  // Nothing below U+0300, whose first byte is 0xCC, takes part in a composition.
  const bool is_nfc = std::all_of(
      text.begin(), text.end(), [](char byte) { return static_cast<unsigned char>(byte) < 0xCC; });
  if (is_nfc) return std::string(text);
  CodePoints points;
  points.reserve(text.size() + 1);
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  auto left = static_cast<utf8proc_ssize_t>(text.size());
  while (left > 0) {
    utf8proc_int32_t point = 0;
    const utf8proc_ssize_t length = utf8proc_iterate(bytes, left, &point);
    POLYHEAD_CHECK(length > 0, "text that is not UTF-8");
    append_decomposed(point, points);
    bytes += length;
    left -= length;
  }
  order_marks(points);
  const auto count = static_cast<utf8proc_ssize_t>(points.size());
  points.push_back(0);  // room for the final zero
  // Composes the code points and writes them as UTF-8 over themselves.
  const utf8proc_ssize_t size = utf8proc_reencode(points.data(), count, kForm);
  POLYHEAD_CHECK(size >= 0, "composition: {}", size);
  return {reinterpret_cast<const char*>(points.data()), static_cast<std::size_t>(size)};
}

}  // namespace polyhead
