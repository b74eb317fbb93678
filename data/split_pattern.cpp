#include "data/split_pattern.h"

#include <string_view>

#include "data/text.h"
#include "data/unicode_pattern.h"
#include "framework/error.h"

namespace polyhead {
namespace {

// One element of a known pattern. Without case, Oniguruma also matches one character to two (such
// as U+00DF to ss); the English contractions, which patterns do compare so, have no such pair.
const UnicodePattern& element() {
  static const UnicodePattern pattern(
      R"([^\\\[\](){}.^$])"                                    // a character, ?, *, + or |
      R"(|\\(?:[sSrnt]|[pP]\{[A-Z][a-z]?\}|[!-/:-@\[-`{-~]))"  // an escape
      R"(|\{[0-9]+(?:,[0-9]*)?\}(?![?+]))"                     // a count
      R"(|\((?:\?[:=!])?(?![?*])|\))"                          // a group begins or ends
      R"(|\(\?i:'s\|'t\|'re\|'ve\|'m\|'ll\|'d\))"
      R"(|\(\?i:\[sdmt\]\|ll\|ve\|re\))"
      // A class of sets, and of characters and their ranges. Within it && would be an intersection.
      R"(|\[\^?+(?:(?<character>[^\\\[\]\-&]|&(?!&)|\\(?:[rnt]|[!-/:-@\[-`{-~]))(?:-(?&character))?)"
      R"(|\\(?:s|[pP]\{[A-Z][a-z]?\}))++\])",
      "the syntax of patterns");
  return pattern;
}

}  // namespace

std::string to_pcre2_syntax(const std::string& pattern, const std::string& place) {
  require(!find_invalid_utf8(pattern), "{}: the pattern is not UTF-8", place);
  std::string translated;
  for (std::size_t at = 0; at < pattern.size();) {
    const std::size_t length = element().match_at(pattern, at);
    require(length > 0,
            "{}: the pattern '{}' is not supported from byte {} on; what patterns may hold is in "
            "data/split_pattern.h",
            place, pattern, at);
    const bool in_class = pattern[at] == '[';
    for (const std::size_t end = at + length; at < end; ++at) {
      const std::string_view rest = std::string_view(pattern).substr(at, end - at);
      const bool space = rest.starts_with("\\s"), other = rest.starts_with("\\S");
      if (space || other) {
        translated += in_class ? "" : other ? "[^" : "[";
        translated += kWhiteSpace;
        translated += in_class ? "" : "]";
        ++at;
      } else {
        translated += pattern[at];
        if (pattern[at] == '\\') translated += pattern[++at];
      }
    }
  }
  return translated;
}

}  // namespace polyhead
