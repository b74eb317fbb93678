#include "data/wikitext_detokenizer.h"

#include <fmt/format.h>

#include "data/text.h"

namespace polyhead {
namespace {

// text.replace(from, to) of Python.
void replace_all(std::string& text, std::string_view from, std::string_view to) {
  std::string result;
  std::size_t begin = 0;
  for (std::size_t at; (at = text.find(from, begin)) != std::string::npos;
       begin = at + from.size()) {
    result.append(text, begin, at - begin).append(to);
  }
  if (begin == 0) return;
  text = result.append(text, begin);
}

// re.sub(r"/' [0-9]/", r"/'[0-9]/", text) of Python. The replacement was meant as a pattern, but is
// written out as it stands; texts hardly have the slashes.
void replace_slashed_digits(std::string& text) {
  constexpr std::string_view kFound = "/' 0/", kPut = "/'[0-9]/";
  for (std::size_t at = 0; (at = text.find("/' ", at)) != std::string::npos;) {
    const std::string_view found = std::string_view(text).substr(at, kFound.size());
    const bool matches =
        found.size() == kFound.size() && '0' <= found[3] && found[3] <= '9' && found[4] == '/';
    if (matches) text.replace(at, kFound.size(), kPut);
    at += matches ? kPut.size() : 1;
  }
}

// re.sub(r"OPEN\s*([^CLOSE]*?)\s*CLOSE", r"OPEN\1CLOSE", text) of Python: a bracket reaches up to
// the first that closes, wherever others open, and loses the white space at its inner ends.
void tighten_brackets(std::string& text, char open, char close) {
  std::string result;
  std::size_t begin = 0;
  for (std::size_t at; (at = text.find(open, begin)) != std::string::npos;) {
    const std::size_t end = text.find(close, at + 1);
    if (end == std::string::npos) break;
    const std::string_view inside = std::string_view(text).substr(at + 1, end - at - 1);
    result.append(text, begin, at + 1 - begin).append(strip(inside)) += close;
    begin = end + 1;
  }
  if (begin == 0) return;
  text = result.append(text, begin);
}

}  // namespace

std::string detokenize_wikitext(std::string_view page) {
  std::string text(page);
  replace_all(text, "s '", "s'");
  replace_slashed_digits(text);
  for (const char* mark : {"-", ",", "."}) replace_all(text, fmt::format(" @{}@ ", mark), mark);
  for (const char* mark : {": ", "; ", ". ", "! ", "? ", ", "}) {
    replace_all(text, std::string(" ") + mark, mark);
  }
  tighten_brackets(text, '(', ')');
  tighten_brackets(text, '[', ']');
  tighten_brackets(text, '{', '}');
  tighten_brackets(text, '"', '"');
  tighten_brackets(text, '\'', '\'');
  replace_all(text, "= = = =", "====");
  replace_all(text, "= = =", "===");
  replace_all(text, "= =", "==");
  replace_all(text, " \u00b0 ", "\u00b0");
  replace_all(text, " \n", "\n");
  replace_all(text, "\n ", "\n");
  replace_all(text, " N ", " 1 ");
  replace_all(text, " 's", "'s");
  return text;
}

}  // namespace polyhead
