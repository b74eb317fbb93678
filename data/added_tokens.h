// Tokens that are found in the text as they stand, before it is split: the added tokens of a
// tokenizer.json. Of those that begin at the same place the longest is taken, then the search goes
// on behind it.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/tokenizer_json.h"

namespace polyhead {

class AddedTokens {
 public:
  // Throws Error, naming `place`, where two have the same content or one is longer than 256 bytes.
  AddedTokens(std::vector<AddedToken> tokens, const std::string& place);
  AddedTokens(const AddedTokens&) = delete;
  AddedTokens& operator=(const AddedTokens&) = delete;

  // Cuts text, which is valid UTF-8, into tokens and what lies between them, which is not empty.
  // White space that a token strips belongs to the token. Time is in proportion to the text, times
  // the length of the longest token where the text is made to look like it.
  void for_each_part(std::string_view text, const std::function<void(std::string_view)>& visit_text,
                     const std::function<void(std::int32_t)>& visit_token) const;

 private:
  struct Match {
    const AddedToken* token = nullptr;
    std::size_t end = 0;
  };
  // The longest match that begins at text[at]; no token where there is none.
  Match match_at(std::string_view text, std::size_t at) const;

  std::vector<AddedToken> tokens_;
  // A trie of the contents; node 0 is its root.
  std::vector<const AddedToken*> token_of_node_;
  std::unordered_map<std::uint64_t, std::uint32_t> children_;  // by node * 256 + byte
  std::array<bool, 256> begins_token_{};
};

}  // namespace polyhead
