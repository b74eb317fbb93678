// A sentencepiece model (Kudo and Richardson 2018): its pieces are the tokens, its end-of-sentence
// piece ends a document.
//
// Encoding a document takes memory in proportion to its length (about a hundred bytes per byte of
// text). A build with POLYHEAD_WITH_SENTENCEPIECE=OFF refuses to load or train a model.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace sentencepiece {
class SentencePieceProcessor;
}

namespace polyhead {

class SentencePieceTokenizer {
 public:
  explicit SentencePieceTokenizer(const std::filesystem::path& file);

  std::vector<std::int32_t> encode(std::string_view text) const;
  std::string decode(std::span<const std::int32_t> tokens) const;
  // The mark of a space is one also where decode() of a text that begins so leaves it out.
  std::string token_bytes(std::int32_t token) const;

  std::int64_t vocab_size() const;
  std::int32_t eod_id() const;
  std::optional<std::int32_t> bos_id() const;  // none where the model has no such piece
  const std::string& fingerprint() const { return fingerprint_; }

 private:
  std::shared_ptr<const sentencepiece::SentencePieceProcessor> processor_;
  std::string fingerprint_;
};

// Trains a BPE model of vocab_size pieces and writes it to `file`. Byte fallback and no
// normalisation, so decode(encode(text)) == text for all text in UTF-8 but for U+2581, which
// sentencepiece writes for a space. Lines are the units of training, their line feeds included, so
// no piece reaches over the end of a line. The same lines and size always give the same bytes.
void train_sentencepiece(std::vector<std::string> lines, std::int64_t vocab_size,
                         const std::filesystem::path& file);

}  // namespace polyhead
