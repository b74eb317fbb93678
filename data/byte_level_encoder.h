// Text to tokens, by the stages of a tokenizer.json:
//
//   added tokens that are sought in the text as it is
//   normalization
//   added tokens that are sought in normalized text
//   splits, and a space before each piece
//   GPT-2's pattern
//   the bytes of a piece, merged to tokens
//
// All of it is as in Hugging Face's tokenizers.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/added_tokens.h"
#include "data/byte_pair_merges.h"
#include "data/tokenizer_json.h"
#include "data/unicode_pattern.h"

namespace polyhead {

class ByteLevelEncoder {
 public:
  // Throws Error, naming `file`, for a pattern or an added token that is not supported.
  ByteLevelEncoder(const TokenizerDescription& description, const std::string& file);
  ~ByteLevelEncoder();

  // Of valid UTF-8, less than 2^31 bytes. May be called from several threads at once.
  std::vector<std::int32_t> encode(std::string_view text) const;

 private:
  // What one call of encode() needs besides. It remembers the tokens of words.
  struct Workspace;
  using Tokens = std::vector<std::int32_t>;

  void encode_part(std::string_view text, std::size_t split, Workspace& workspace,
                   Tokens& tokens) const;
  void encode_word(std::string_view word, Workspace& workspace, Tokens& tokens) const;
  void encode_new_word(std::string_view word, Workspace& workspace, Tokens& tokens) const;

  AddedTokens added_tokens_;
  bool nfc_;
  AddedTokens normalized_added_tokens_;
  std::vector<UnicodePattern> splits_;
  bool add_prefix_space_;
  std::optional<UnicodePattern> last_split_;
  std::unordered_map<std::string, std::int32_t> whole_words_;  // that are not merged
  BytePairMerges merges_;

  mutable std::mutex mutex_;
  mutable std::vector<std::unique_ptr<Workspace>> idle_workspaces_;
};

}  // namespace polyhead
