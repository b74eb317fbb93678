// Stands in for sentencepiece_tokenizer.cpp where sentencepiece is absent. No tokenizer can be
// made, so the other members are never reached.
#include "data/sentencepiece_tokenizer.h"
#include "framework/error.h"

namespace polyhead {
namespace {

[[noreturn]] void refuse(const std::string& file) {
  fail(
      "{}: this binary was built without sentencepiece; install libsentencepiece-dev and configure "
      "with -DPOLYHEAD_WITH_SENTENCEPIECE=ON, or use the tokenizer 'bytes' or a tokenizer.json",
      file);
}

}  // namespace

SentencePieceTokenizer::SentencePieceTokenizer(const std::filesystem::path& file) {
  refuse(file.string());
}

std::vector<std::int32_t> SentencePieceTokenizer::encode(std::string_view) const {
  return {};
}
std::string SentencePieceTokenizer::decode(std::span<const std::int32_t>) const {
  return {};
}
std::string SentencePieceTokenizer::token_bytes(std::int32_t) const {
  return {};
}
std::int64_t SentencePieceTokenizer::vocab_size() const {
  return 0;
}
std::int32_t SentencePieceTokenizer::eod_id() const {
  return 0;
}
std::optional<std::int32_t> SentencePieceTokenizer::bos_id() const {
  return std::nullopt;
}

void train_sentencepiece(std::vector<std::string>, std::int64_t,
                         const std::filesystem::path& file) {
  refuse(file.string());
}

}  // namespace polyhead
