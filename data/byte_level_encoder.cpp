#include "data/byte_level_encoder.h"

#include "data/byte_level.h"
#include "data/nfc.h"
#include "data/split_pattern.h"
#include "framework/error.h"

namespace polyhead {
namespace {

constexpr std::size_t kRememberedWords = std::size_t{1} << 16;
constexpr std::size_t kLongestRememberedWord = 64;
constexpr std::size_t kLongestText = (std::size_t{1} << 31) - 2;  // a space may come before it

std::vector<AddedToken> added_tokens_of(const TokenizerDescription& description, bool normalized) {
  std::vector<AddedToken> tokens;
  for (const AddedToken& token : description.added_tokens) {
    if (token.normalized != normalized) continue;
    tokens.push_back(token);
    if (normalized && description.nfc) tokens.back().content = to_nfc(token.content);
  }
  return tokens;
}

UnicodePattern compile(const std::string& pattern, const std::string& file) {
  const std::string place = file + ": pre_tokenizer";
  return {to_pcre2_syntax(pattern, place), place};
}

}  // namespace

struct ByteLevelEncoder::Workspace {
  struct Word {
    std::string bytes;
    Tokens tokens;
  };
  std::vector<Word> words{kRememberedWords};  // by hash; a new word takes the place of an old one
  BytePairMerges::Workspace merges;
};

ByteLevelEncoder::ByteLevelEncoder(const TokenizerDescription& description, const std::string& file)
    : added_tokens_(added_tokens_of(description, false), file),
      nfc_(description.nfc),
      normalized_added_tokens_(added_tokens_of(description, true), file),
      add_prefix_space_(description.add_prefix_space),
      merges_(description.byte_tokens, description.merges) {
  for (const std::string& pattern : description.split_patterns) {
    splits_.push_back(compile(pattern, file));
  }
  if (description.split_by_gpt2_pattern) last_split_ = compile(kGpt2Pattern, file);
  if (description.ignore_merges) {
    for (const auto& [token, id] : description.vocabulary) {
      // What is not in the alphabet can be no word.
      if (const auto bytes = byte_level_bytes(token)) whole_words_.emplace(*bytes, id);
    }
  }
}

ByteLevelEncoder::~ByteLevelEncoder() = default;

std::vector<std::int32_t> ByteLevelEncoder::encode(std::string_view text) const {
  require(text.size() <= kLongestText, "a text of {} bytes is too long to tokenize; at most {}",
          text.size(), kLongestText);
  std::unique_ptr<Workspace> workspace;
  {
    const std::lock_guard lock(mutex_);
    if (!idle_workspaces_.empty()) {
      workspace = std::move(idle_workspaces_.back());
      idle_workspaces_.pop_back();
    }
  }
  if (!workspace) workspace = std::make_unique<Workspace>();

  Tokens tokens;
  const auto append = [&](std::int32_t token) { tokens.push_back(token); };
  const auto encode_normalized = [&](std::string_view part) {
    encode_part(part, 0, *workspace, tokens);
  };
  added_tokens_.for_each_part(
      text,
      [&](std::string_view part) {
        const std::string normalized = nfc_ ? to_nfc(part) : std::string();
        normalized_added_tokens_.for_each_part(nfc_ ? normalized : part, encode_normalized, append);
      },
      append);

  const std::lock_guard lock(mutex_);
  idle_workspaces_.push_back(std::move(workspace));
  return tokens;
}

void ByteLevelEncoder::encode_part(std::string_view text, std::size_t split, Workspace& workspace,
                                   Tokens& tokens) const {
  if (split < splits_.size()) {
    return splits_[split].for_each_piece(
        text, [&](std::string_view piece) { encode_part(piece, split + 1, workspace, tokens); });
  }
  std::string prefixed;
  if (add_prefix_space_ && text.front() != ' ') {
    prefixed.append(" ").append(text);
    text = prefixed;
  }
  if (!last_split_) return encode_word(text, workspace, tokens);
  last_split_->for_each_piece(text,
                              [&](std::string_view word) { encode_word(word, workspace, tokens); });
}

void ByteLevelEncoder::encode_word(std::string_view word, Workspace& workspace,
                                   Tokens& tokens) const {
  if (word.size() > kLongestRememberedWord) return encode_new_word(word, workspace, tokens);
  Workspace::Word& remembered =
      workspace.words[std::hash<std::string_view>{}(word) % kRememberedWords];
  if (remembered.bytes != word) {
    remembered.tokens.clear();
    encode_new_word(word, workspace, remembered.tokens);
    remembered.bytes = word;
  }
  tokens.insert(tokens.end(), remembered.tokens.begin(), remembered.tokens.end());
}

void ByteLevelEncoder::encode_new_word(std::string_view word, Workspace& workspace,
                                       Tokens& tokens) const {
  if (!whole_words_.empty()) {
    const auto whole = whole_words_.find(std::string(word));
    if (whole != whole_words_.end()) return tokens.push_back(whole->second);
  }
  merges_.encode(word, workspace.merges, tokens);
}

}  // namespace polyhead
