// Text to tokens and back: raw bytes, a sentencepiece model, or a tokenizer.json of Hugging Face.
//
// encode() never adds markers. The end of a document (eod) is a token of its own that no text
// encodes to, but for a tokenizer.json, which finds its special tokens in the text. decode() leaves
// eod out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/byte_level_tokenizer.h"
#include "data/byte_tokenizer.h"
#include "data/sentencepiece_tokenizer.h"

namespace polyhead {

class Tokenizer {
 public:
  // "bytes", the file of a sentencepiece model, or a file of the name tokenizer.json.
  explicit Tokenizer(const std::string& name_or_file);

  std::vector<std::int32_t> encode(std::string_view text) const;
  // Throws Error for a token outside the vocabulary.
  std::string decode(std::span<const std::int32_t> tokens) const;
  // What a token adds to a text that has begun: bytes that may be part of a character. Empty for
  // eod and other special tokens. Throws as decode() does.
  std::string token_bytes(std::int32_t token) const;

  std::int64_t vocab_size() const;
  std::int32_t eod_id() const;
  // What the families of these tokenizers put in front of a text: the token that a tokenizer.json's
  // post_processor adds, or sentencepiece's begin-of-sentence piece. None for bytes.
  std::optional<std::int32_t> bos_id() const;
  std::string kind() const;                  // "bytes", "sentencepiece" or "byte_level_bpe"
  const std::filesystem::path& file() const  // empty for bytes
  {
    return file_;
  }
  // Equal where two tokenizers make the same tokens: a hash of the model file, whatever its name.
  std::string fingerprint() const;

 private:
  void require_token(std::int32_t token) const;

  std::filesystem::path file_;
  std::variant<ByteTokenizer, SentencePieceTokenizer, ByteLevelTokenizer> tokenizer_;
};

}  // namespace polyhead
