// Stands in for byte_level_tokenizer.cpp where PCRE2 or utf8proc is absent. No tokenizer can be
// made, so the other members are never reached.
#include "data/byte_level_tokenizer.h"
#include "framework/error.h"

namespace polyhead {

ByteLevelTokenizer::ByteLevelTokenizer(const std::filesystem::path& file) {
  fail(
      "{}: this binary was built without tokenizer.json; install libpcre2-dev and libutf8proc-dev "
      "and configure with -DPOLYHEAD_WITH_TOKENIZER_JSON=ON, or use the tokenizer 'bytes' or a "
      "sentencepiece model",
      file.string());
}

std::vector<std::int32_t> ByteLevelTokenizer::encode(std::string_view) const {
  return {};
}
std::string ByteLevelTokenizer::decode(std::span<const std::int32_t>) const {
  return {};
}
std::int64_t ByteLevelTokenizer::vocab_size() const {
  return 0;
}
std::int32_t ByteLevelTokenizer::eod_id() const {
  return 0;
}
std::optional<std::int32_t> ByteLevelTokenizer::bos_id() const {
  return std::nullopt;
}

}  // namespace polyhead
