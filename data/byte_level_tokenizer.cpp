#include "data/byte_level_tokenizer.h"

#include <algorithm>
#include <array>
#include <unordered_set>

#include "data/byte_level.h"
#include "data/byte_level_encoder.h"
#include "data/nfc.h"
#include "data/text.h"
#include "framework/error.h"
#include "framework/files/content_hash.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

constexpr std::array kDocumentEnds = {"<|endoftext|>", "<|end_of_text|>",
                                      "<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "</s>"};

std::int32_t find_eod(const TokenizerDescription& description, const std::string& file) {
  for (const char* end : kDocumentEnds) {
    for (const AddedToken& token : description.added_tokens) {
      if (token.special && token.content == end) return token.id;
    }
  }
  fail("{}: no token ends a document; added_tokens must have one of {} with special: true", file,
       fmt::join(kDocumentEnds, ", "));
}

std::optional<std::int32_t> find_bos(const TokenizerDescription& description) {
  for (const AddedToken& token : description.added_tokens) {
    if (token.content == description.leading_token) return token.id;
  }
  return std::nullopt;
}

// The bytes that each token decodes to.
std::vector<std::string> bytes_by_id(const TokenizerDescription& description) {
  std::vector<std::string> bytes;
  const auto set = [&](std::int32_t id, const std::string& content) {
    const auto index = static_cast<std::size_t>(id);
    if (index >= bytes.size()) bytes.resize(index + 1);
    // A token that is not in the alphabet, such as one of added Chinese text, stands for itself.
    bytes[index] = byte_level_bytes(content).value_or(content);
  };
  for (const auto& [token, id] : description.vocabulary) set(id, token);
  std::unordered_set<std::string> special;
  for (const AddedToken& token : description.added_tokens) {
    if (token.special) special.insert(token.content);
  }
  for (const AddedToken& token : description.added_tokens) {
    const bool nfc = token.normalized && description.nfc;
    const std::string content = nfc ? to_nfc(token.content) : token.content;
    set(token.id, special.contains(content) ? "" : content);
  }
  return bytes;
}

}  // namespace

ByteLevelTokenizer::ByteLevelTokenizer(const std::filesystem::path& file) {
  const MappedFile json(file);
  const TokenizerDescription description = read_tokenizer_json(json.text(), file.string());
  encoder_ = std::make_shared<ByteLevelEncoder>(description, file.string());
  bytes_by_id_ = bytes_by_id(description);
  eod_id_ = find_eod(description, file.string());
  bos_id_ = find_bos(description);
  fingerprint_ = content_hash(json.bytes());
}

std::vector<std::int32_t> ByteLevelTokenizer::encode(std::string_view text) const {
  if (!find_invalid_utf8(text)) return encoder_->encode(text);
  return encoder_->encode(replace_invalid_utf8(text));
}

std::string ByteLevelTokenizer::decode(std::span<const std::int32_t> tokens) const {
  std::string bytes;
  for (const std::int32_t token : tokens) bytes += token_bytes(token);
  return replace_invalid_utf8(bytes);
}

std::int64_t ByteLevelTokenizer::vocab_size() const {
  return static_cast<std::int64_t>(bytes_by_id_.size());
}

std::int32_t ByteLevelTokenizer::eod_id() const {
  return eod_id_;
}

std::optional<std::int32_t> ByteLevelTokenizer::bos_id() const {
  return bos_id_;
}

}  // namespace polyhead
