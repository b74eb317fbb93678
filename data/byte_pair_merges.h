// Byte-pair encoding (Sennrich et al. 2016) of one word: its bytes become tokens, and of all
// neighbouring pairs that have a merge the one of the lowest rank, the leftmost of equals, becomes
// one token, until no pair has a merge.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <vector>

namespace polyhead {

struct MergeRule {
  std::int32_t left = 0;
  std::int32_t right = 0;
  std::int32_t merged = 0;
};

class BytePairMerges {
 public:
  // The place of a rule in the list is its rank; of two with the same pair the last holds.
  BytePairMerges(const std::array<std::int32_t, 256>& byte_tokens,
                 const std::vector<MergeRule>& rules);

  // Memory of encode() that calls after each other share; one for each thread.
  class Workspace {
   private:
    friend class BytePairMerges;
    struct Symbol {
      std::int32_t token;
      std::int32_t previous;
      std::int32_t next;
    };
    struct Candidate {
      std::int32_t rank;
      std::int32_t left;  // the pair's left symbol
      std::int32_t merged;
    };
    std::vector<Symbol> symbols_;
    std::vector<Candidate> queue_;  // a heap
  };

  // Appends the tokens of a word of fewer than 2^31 bytes. O(n log n) for n bytes.
  void encode(std::string_view word, Workspace& workspace, std::vector<std::int32_t>& tokens) const;

 private:
  struct Merge {
    std::int32_t right;
    std::int32_t rank;
    std::int32_t merged;
  };
  const Merge* find(std::int32_t left, std::int32_t right) const;  // null: no merge

  std::array<std::int32_t, 256> byte_tokens_;
  std::vector<Merge> merges_;        // by left token, then by right token
  std::vector<std::size_t> begins_;  // begins_[t]: the first merge whose left token is t
};

}  // namespace polyhead
