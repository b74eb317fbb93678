#include "data/unicode_pattern.h"

#include <optional>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "framework/error.h"

namespace polyhead {
namespace {

std::string error_text(int error) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(error, text, sizeof(text));
  return reinterpret_cast<const char*>(text);
}

PCRE2_SPTR units(std::string_view text) {
  return reinterpret_cast<PCRE2_SPTR>(text.data());
}

class Matcher {
 public:
  explicit Matcher(const pcre2_code* code)
      : code_(code), data_(pcre2_match_data_create(1, nullptr)) {
    if (!data_) throw std::bad_alloc();
  }

  struct Match {
    std::size_t begin = 0;
    std::size_t end = 0;
  };

  // The first match that begins at text[from] or later.
  std::optional<Match> find(std::string_view text, std::size_t from, std::uint32_t options = 0) {
    const auto run = [&](std::uint32_t more) {
      return pcre2_match(code_, units(text), text.size(), from, PCRE2_NO_UTF_CHECK | options | more,
                         data_.get(), nullptr);
    };
    int found = run(0);
    // The interpreter takes its stack from the heap.
    if (found == PCRE2_ERROR_JIT_STACKLIMIT) found = run(PCRE2_NO_JIT);
    if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
    require(found >= 0, "a pattern of the tokenizer cannot be matched to the text: PCRE2 says: {}",
            error_text(found));
    const PCRE2_SIZE* range = pcre2_get_ovector_pointer(data_.get());
    return Match{range[0], range[1]};
  }

 private:
  struct FreeData {
    void operator()(pcre2_match_data* data) const { pcre2_match_data_free(data); }
  };
  const pcre2_code* code_;
  std::unique_ptr<pcre2_match_data, FreeData> data_;
};

}  // namespace

void UnicodePattern::FreeCode::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

UnicodePattern::UnicodePattern(const std::string& pattern, const std::string& place) {
  int error = 0;
  PCRE2_SIZE offset = 0;
  code_.reset(pcre2_compile(units(pattern), pattern.size(), PCRE2_UTF | PCRE2_UCP, &error, &offset,
                            nullptr));
  require(code_ != nullptr, "{}: the pattern '{}' is wrong at byte {}: {}", place, pattern, offset,
          error_text(error));
  std::uint32_t matches_empty = 0;
  pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  require(matches_empty == 0,
          "{}: the pattern '{}' matches the empty string, which is not supported", place, pattern);
  // Without machine code the interpreter runs.
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
}

void UnicodePattern::for_each_piece(std::string_view text,
                                    const std::function<void(std::string_view)>& visit) const {
  Matcher matcher(code_.get());
  std::size_t begin = 0;
  while (begin < text.size()) {
    const auto match = matcher.find(text, begin);
    if (!match) return visit(text.substr(begin));
    if (match->begin > begin) visit(text.substr(begin, match->begin - begin));
    visit(text.substr(match->begin, match->end - match->begin));
    begin = match->end;
  }
}

std::size_t UnicodePattern::match_at(std::string_view text, std::size_t at) const {
  if (at == text.size()) return 0;
  const auto match = Matcher(code_.get()).find(text, at, PCRE2_ANCHORED);
  return match ? match->end - at : 0;
}

}  // namespace polyhead
