#include "data/tokenizer.h"

#include <array>

#include "framework/error.h"

namespace polyhead {
namespace {

constexpr const char* kBytes = "bytes";

constexpr const char* kTokenizerJson = "tokenizer.json";

std::variant<ByteTokenizer, SentencePieceTokenizer, ByteLevelTokenizer> make(
    const std::string& name_or_file) {
  if (name_or_file == kBytes) return ByteTokenizer();
  const std::filesystem::path file = name_or_file;
  if (file.filename() == kTokenizerJson) return ByteLevelTokenizer(file);
  require(
      file.extension() != ".json",
      "{}: a tokenizer of Hugging Face must have the name {}, by which other programs find it in "
      "a checkpoint; rename it",
      name_or_file, kTokenizerJson);
  return SentencePieceTokenizer(file);
}

}  // namespace

Tokenizer::Tokenizer(const std::string& name_or_file)
    : file_(name_or_file == kBytes ? "" : name_or_file), tokenizer_(make(name_or_file)) {}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
  return std::visit([&](const auto& tokenizer) { return tokenizer.encode(text); }, tokenizer_);
}

void Tokenizer::require_token(std::int32_t token) const {
  require(0 <= token && token < vocab_size(),
          "token {} lies outside the {} tokenizer's vocabulary of {}", token, kind(), vocab_size());
}

std::string Tokenizer::decode(std::span<const std::int32_t> tokens) const {
  for (const std::int32_t token : tokens) require_token(token);
  return std::visit([&](const auto& tokenizer) { return tokenizer.decode(tokens); }, tokenizer_);
}

std::string Tokenizer::token_bytes(std::int32_t token) const {
  require_token(token);
  return std::visit([&](const auto& tokenizer) { return tokenizer.token_bytes(token); },
                    tokenizer_);
}

std::int64_t Tokenizer::vocab_size() const {
  return std::visit([](const auto& tokenizer) { return tokenizer.vocab_size(); }, tokenizer_);
}

std::int32_t Tokenizer::eod_id() const {
  return std::visit([](const auto& tokenizer) { return tokenizer.eod_id(); }, tokenizer_);
}

std::optional<std::int32_t> Tokenizer::bos_id() const {
  return std::visit([](const auto& tokenizer) { return tokenizer.bos_id(); }, tokenizer_);
}

std::string Tokenizer::kind() const {
  constexpr std::array kKinds = {kBytes, "sentencepiece", "byte_level_bpe"};
  return kKinds[tokenizer_.index()];
}

std::string Tokenizer::fingerprint() const {
  return std::visit([](const auto& tokenizer) { return tokenizer.fingerprint(); }, tokenizer_);
}

}  // namespace polyhead
