// A regular expression over UTF-8 text, run by PCRE2 with Unicode's properties and, where the
// machine allows, compiled to machine code.
//
// Its Unicode is that of the installed PCRE2: 14 for 10.42, where Hugging Face's tokenizers 0.23
// have 16. To the older one a character that came with a newer version (such as the ideographs from
// U+31350 on) is no letter, so that text with it may be split at other places.
//
// All members may be called from several threads at once.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;

namespace polyhead {

// Characters with Unicode's property White_Space, for use within a class. PCRE2's \s has U+180E
// too.
inline constexpr const char* kWhiteSpace = R"(\t-\r \x{85}\p{Z})";

class UnicodePattern {
 public:
  // `pattern` is in PCRE2's syntax. Throws Error, naming `place`, where it is not, or where it
  // matches the empty string.
  UnicodePattern(const std::string& pattern, const std::string& place);

  // Cuts text, which is valid UTF-8, into matches and what lies between them; no piece is empty.
  void for_each_piece(std::string_view text,
                      const std::function<void(std::string_view)>& visit) const;

  // Bytes of the match that begins at text[at]; 0 where none does, as at the end of the text.
  std::size_t match_at(std::string_view text, std::size_t at) const;

 private:
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const;
  };
  std::unique_ptr<pcre2_real_code_8, FreeCode> code_;
};

}  // namespace polyhead
