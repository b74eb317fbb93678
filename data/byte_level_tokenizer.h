// The byte-level BPE tokenizers that Hugging Face's tokenizer.json describes: GPT-2's, Llama 3's,
// Qwen's and their like (data/tokenizer_json.h says which are refused).
//
// encode(text) gives what encode(text, add_special_tokens=False) of Hugging Face's tokenizers
// gives, decode(tokens) what their decode(tokens) gives: special tokens are left out. So where a
// text holds the content of an added token, such as <|endoftext|>, it encodes to that token. Bytes
// that are not UTF-8 become U+FFFD, as Python's errors="replace" makes them.
//
// tokenizer.json does not say which token ends a document. It is the first of <|endoftext|> (GPT-2,
// Qwen), <|end_of_text|> (Llama 3), <|end▁of▁sentence|> with wide bars (DeepSeek) and </s> that is
// a special token of the file; one that marks the end of a turn in a chat ends no document. A token
// that begins documents (Llama 3's <|begin_of_text|>) is not added; bos_id() tells it.
//
// A build with POLYHEAD_WITH_TOKENIZER_JSON=OFF refuses to load one.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace polyhead {

class ByteLevelEncoder;

class ByteLevelTokenizer {
 public:
  explicit ByteLevelTokenizer(const std::filesystem::path& file);

  // Text of less than 2^31 bytes. Both may be called from several threads at once.
  std::vector<std::int32_t> encode(std::string_view text) const;
  std::string decode(std::span<const std::int32_t> tokens) const;
  // Empty for a special token and where there is none.
  const std::string& token_bytes(std::int32_t token) const {
    return bytes_by_id_[static_cast<std::size_t>(token)];
  }

  std::int64_t vocab_size() const;  // the largest id and one
  std::int32_t eod_id() const;
  std::optional<std::int32_t> bos_id() const;
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  std::shared_ptr<const ByteLevelEncoder> encoder_;
  std::vector<std::string> bytes_by_id_;  // empty for a special token and where there is none
  std::int32_t eod_id_ = 0;
  std::optional<std::int32_t> bos_id_;
  std::string fingerprint_;
};

}  // namespace polyhead
