#include "data/byte_pair_merges.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

#include "data/byte_level.h"

namespace polyhead {
namespace {

using Tokens = std::vector<std::int32_t>;

std::array<std::int32_t, 256> bytes_as_tokens() {
  std::array<std::int32_t, 256> tokens{};
  for (std::size_t byte = 0; byte < tokens.size(); ++byte) {
    tokens[byte] = static_cast<std::int32_t>(byte);
  }
  return tokens;
}

Tokens encode(const BytePairMerges& merges, std::string_view word) {
  BytePairMerges::Workspace workspace;
  Tokens tokens;
  merges.encode(word, workspace, tokens);
  return tokens;
}

// The definition: the leftmost pair of the lowest rank is merged, again and again.
Tokens merged_step_by_step(const std::vector<MergeRule>& rules, std::string_view word) {
  Tokens tokens;
  for (const char byte : word) tokens.push_back(static_cast<unsigned char>(byte));
  while (true) {
    std::size_t best_rank = rules.size(), best_place = 0;
    for (std::size_t i = 0; i + 1 < tokens.size(); ++i) {
      for (std::size_t rank = 0; rank < best_rank; ++rank) {
        if (rules[rank].left != tokens[i] || rules[rank].right != tokens[i + 1]) continue;
        best_rank = rank;
        best_place = i;
      }
    }
    if (best_rank == rules.size()) return tokens;
    tokens[best_place] = rules[best_rank].merged;
    tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(best_place) + 1);
  }
}

TEST(BytePairMerges, MergesAsDefined) {
  std::mt19937 random(5);
  const auto below = [&](std::size_t end) { return static_cast<std::int32_t>(random() % end); };
  for (int repeat = 0; repeat < 200; ++repeat) {
    // Each makes a token of its own, of letters a to d and the tokens made before.
    std::vector<MergeRule> rules;
    std::map<std::pair<std::int32_t, std::int32_t>, bool> pairs;
    for (std::int32_t token = 256; token < 286; ++token) {
      const auto part = [&] {
        const std::int32_t choice = below(4 + rules.size());
        return choice < 4 ? 'a' + choice : 256 + choice - 4;
      };
      const std::int32_t left = part(), right = part();
      if (!pairs.emplace(std::pair(left, right), true).second) break;
      rules.push_back({left, right, token});
    }
    std::shuffle(rules.begin(), rules.end(), random);
    const BytePairMerges merges(bytes_as_tokens(), rules);
    for (int length = 0; length < 60; length += 7) {
      std::string word;
      for (int i = 0; i < length; ++i) word.push_back(static_cast<char>('a' + below(5)));
      EXPECT_EQ(encode(merges, word), merged_step_by_step(rules, word)) << word;
    }
  }
}

TEST(BytePairMerges, TakesTheLastOfEqualPairs) {
  const std::vector<MergeRule> rules = {{'a', 'b', 256}, {'b', 'c', 257}, {'a', 'b', 258}};
  const BytePairMerges merges(bytes_as_tokens(), rules);
  EXPECT_EQ(encode(merges, "abc"), (Tokens{'a', 257}));
  EXPECT_EQ(encode(merges, "ab"), (Tokens{258}));
  EXPECT_EQ(encode(merges, ""), Tokens{});
  EXPECT_EQ(encode(BytePairMerges(bytes_as_tokens(), {}), "ab"), (Tokens{'a', 'b'}));
}

// In quadratic time this would take an hour.
TEST(BytePairMerges, MergesALongWord) {
  std::vector<MergeRule> rules = {{'a', 'a', 256}};
  for (std::int32_t token = 256; token < 270; ++token) rules.push_back({token, token, token + 1});
  const BytePairMerges merges(bytes_as_tokens(), rules);
  EXPECT_EQ(encode(merges, std::string(1 << 20, 'a')), Tokens(std::size_t{1} << 5, 270));
}

TEST(ByteLevel, WritesEachByteAsACharacter) {
  EXPECT_EQ(byte_level_character('a'), "a");
  EXPECT_EQ(byte_level_character(' '), "\u0120");
  EXPECT_EQ(byte_level_character('\n'), "\u010a");
  EXPECT_EQ(byte_level_character(0xAD), "\u0143");
  EXPECT_EQ(byte_level_character(0xFF), "\u00ff");
  for (int byte = 0; byte < 256; ++byte) {
    const auto bytes = byte_level_bytes(byte_level_character(static_cast<unsigned char>(byte)));
    EXPECT_EQ(bytes, std::string(1, static_cast<char>(byte)));
  }
  EXPECT_EQ(byte_level_bytes("\u0120the"), " the");
  for (const char* token : {" ", "a\u00a0", "\u0144", "\u4e2d", "\xc4"}) {
    EXPECT_EQ(byte_level_bytes(token), std::nullopt);
  }
}

}  // namespace
}  // namespace polyhead
