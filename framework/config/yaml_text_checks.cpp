#include "framework/config/yaml_text_checks.h"

#include <algorithm>

#include "framework/config/yaml_parser.h"
#include "framework/error.h"

namespace polyhead {

namespace {

constexpr int kWidestIndentation = 64;  // columns; each level of blocks takes at least one

// Length of the UTF-8 sequence at the start of `text` (RFC 3629: shortest form, no surrogates), or
// 0 if there is none.
std::size_t utf8_length(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  const bool overlong = (first == 0xe0 && byte(1) < 0xa0) || (first == 0xf0 && byte(1) < 0x90);
  const bool surrogate = first == 0xed && byte(1) >= 0xa0;
  const bool too_large = first == 0xf4 && byte(1) >= 0x90;
  return overlong || surrogate || too_large ? 0 : length;
}

// Walks over the text once and remembers where it is.
class TextChecker {
 public:
  TextChecker(std::string_view text, const std::string& source, Problems& problems)
      : text_(text), source_(source), problems_(problems) {}

  bool check() {
    while (fit_ && position_ < text_.size()) step();
    return fit_;
  }

 private:
  void step() {
    const char c = text_[position_];
    const std::size_t length = utf8_length(text_.substr(position_));
    if (length == 0) return refuse("not valid UTF-8; save the file as UTF-8");
    if (c == '\t') return refuse("a tab; YAML indents with spaces only");
    const bool line_end = c == '\n' || text_.substr(position_, 2) == "\r\n";
    if (!line_end && (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)) {
      return refuse("a control character; delete it");
    }
    follow_structure(c);
    position_ += length;
    ++column_;
    if (c == '\n') {
      ++line_;
      column_ = 1;
      indenting_ = true;
      in_comment_ = false;
    }
  }

  void follow_structure(char c) {
    const bool after_space = column_ == 1 || text_[position_ - 1] == ' ';
    if (c == '#' && after_space) in_comment_ = true;
    if (in_comment_) return;
    indenting_ = indenting_ && (c == ' ' || c == '-' || c == '?');
    if (c == '[' || c == '{') ++brackets_;
    if (c == ']' || c == '}') brackets_ = std::max(brackets_ - 1, 0);
    if (brackets_ > kDeepestConfig || (indenting_ && column_ > kWidestIndentation)) {
      refuse(fmt::format("nested too deeply; at most {} levels", kDeepestConfig));
    }
  }

  void refuse(std::string_view message) {
    problems_.add({source_, line_, column_}, "", message);
    fit_ = false;
  }

  std::string_view text_;
  const std::string& source_;
  Problems& problems_;
  std::size_t position_ = 0;
  int line_ = 1;
  int column_ = 1;
  int brackets_ = 0;
  bool indenting_ = true;
  bool in_comment_ = false;
  bool fit_ = true;
};

}  // namespace

bool check_yaml_text(std::string_view text, const std::string& source, Problems& problems) {
  if (text.size() > kLargestConfig) {
    problems.add({source}, "", fmt::format("larger than {} bytes", kLargestConfig));
    return false;
  }
  if (text.substr(0, 3) == "\xef\xbb\xbf") {
    problems.add({source, 1, 1}, "", "begins with a byte-order mark; save it without one");
    return false;
  }
  return TextChecker(text, source, problems).check();
}

}  // namespace polyhead
