#include "data/added_tokens.h"

#include <algorithm>

#include "data/unicode_pattern.h"
#include "framework/error.h"

namespace polyhead {
namespace {

constexpr std::size_t kLongestToken = 256;

// \w and \s of Rust's regular expressions.
const UnicodePattern& word_character() {
  static const UnicodePattern pattern(R"([\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}])",
                                      "word characters");
  return pattern;
}

const UnicodePattern& space() {
  static const UnicodePattern pattern(fmt::format("[{}]", kWhiteSpace), "white space");
  return pattern;
}

// Where the character before text[end] begins.
std::size_t character_before(std::string_view text, std::size_t end) {
  do {
    --end;
  } while ((static_cast<unsigned char>(text[end]) & 0xC0) == 0x80);
  return end;
}

bool beside_word(std::string_view text, std::size_t begin, std::size_t end) {
  return word_character().match_at(text, end) > 0 ||
         (begin > 0 && word_character().match_at(text, character_before(text, begin)) > 0);
}

std::size_t strip_left(std::string_view text, std::size_t begin, std::size_t least) {
  while (begin > least) {
    const std::size_t before = character_before(text, begin);
    if (space().match_at(text, before) == 0) break;
    begin = before;
  }
  return std::max(begin, least);
}

std::size_t strip_right(std::string_view text, std::size_t end) {
  while (const std::size_t length = space().match_at(text, end)) end += length;
  return end;
}

}  // namespace

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, const std::string& place)
    : tokens_(std::move(tokens)), token_of_node_{nullptr} {
  for (const AddedToken& token : tokens_) {
    require(token.content.size() <= kLongestToken,
            "{}: the added token '{}...' is longer than {} bytes, which is not supported", place,
            token.content.substr(0, 32), kLongestToken);
    std::uint32_t node = 0;
    for (const char byte : token.content) {
      const auto next = static_cast<std::uint32_t>(token_of_node_.size());
      const auto [child, is_new] =
          children_.emplace(std::uint64_t{node} * 256 + static_cast<unsigned char>(byte), next);
      if (is_new) token_of_node_.push_back(nullptr);
      node = child->second;
    }
    require(token_of_node_[node] == nullptr, "{}: two added tokens are '{}'", place, token.content);
    token_of_node_[node] = &token;
    begins_token_[static_cast<unsigned char>(token.content[0])] = true;
  }
}

AddedTokens::Match AddedTokens::match_at(std::string_view text, std::size_t at) const {
  Match longest;
  std::uint32_t node = 0;
  while (at < text.size()) {
    const auto child =
        children_.find(std::uint64_t{node} * 256 + static_cast<unsigned char>(text[at++]));
    if (child == children_.end()) break;
    node = child->second;
    if (token_of_node_[node] != nullptr) longest = {token_of_node_[node], at};
  }
  return longest;
}

void AddedTokens::for_each_part(std::string_view text,
                                const std::function<void(std::string_view)>& visit_text,
                                const std::function<void(std::int32_t)>& visit_token) const {
  std::size_t done = 0;       // what lies before has been visited
  std::size_t space_end = 0;  // of the white space that was stripped last
  for (std::size_t at = 0; at < text.size();) {
    const Match match =
        begins_token_[static_cast<unsigned char>(text[at])] ? match_at(text, at) : Match{};
    if (match.token == nullptr) {
      ++at;
      continue;
    }
    std::size_t begin = at, end = match.end;
    at = match.end;
    if (match.token->single_word && beside_word(text, begin, end)) continue;
    if (match.token->lstrip) begin = strip_left(text, begin, done);
    // A token of white space may lie in what was stripped, and is then found nevertheless: the
    // search goes on where a content ends. What is stripped again need not be looked at again.
    if (match.token->rstrip) end = space_end = strip_right(text, std::max(end, space_end));
    if (begin > done) visit_text(text.substr(done, begin - done));
    // Nothing is left of white space that the token before stripped, where this one strips it too.
    if (begin < end) visit_token(match.token->id);
    done = end;
  }
  if (done < text.size()) visit_text(text.substr(done));
}

}  // namespace polyhead
