// Text to tokens and back: raw bytes, or a sentencepiece model.
//
// encode() never adds markers; the end of a document (eod) is a token of its own that no text
// encodes to. decode() leaves eod out.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "data/byte_tokenizer.h"
#include "data/sentencepiece_tokenizer.h"

namespace polyhead {

class Tokenizer {
 public:
  // "bytes", or the file of a sentencepiece model.
  explicit Tokenizer(const std::string& name_or_file);

  std::vector<std::int32_t> encode(std::string_view text) const;
  // Throws Error for a token outside the vocabulary.
  std::string decode(std::span<const std::int32_t> tokens) const;

  std::int64_t vocab_size() const;
  std::int32_t eod_id() const;
  std::string kind() const;                  // "bytes" or "sentencepiece"
  const std::filesystem::path& file() const  // empty for bytes
  {
    return file_;
  }
  // Equal where two tokenizers make the same tokens: a hash of the model file, whatever its name.
  std::string fingerprint() const;

 private:
  std::filesystem::path file_;
  std::variant<ByteTokenizer, SentencePieceTokenizer> tokenizer_;
};

}  // namespace polyhead
