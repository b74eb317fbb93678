#include "data/byte_pair_merges.h"

#include <algorithm>
#include <tuple>

namespace polyhead {
namespace {

constexpr std::int32_t kNone = -1;

}  // namespace

BytePairMerges::BytePairMerges(const std::array<std::int32_t, 256>& byte_tokens,
                               const std::vector<MergeRule>& rules)
    : byte_tokens_(byte_tokens) {
  std::vector<std::size_t> order(rules.size());
  for (std::size_t rank = 0; rank < order.size(); ++rank) order[rank] = rank;
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) {
    return std::tie(rules[a].left, rules[a].right, a) < std::tie(rules[b].left, rules[b].right, b);
  });
  std::int32_t last_left = kNone;
  for (const std::size_t rank : order) {
    const MergeRule& rule = rules[rank];
    const Merge merge{rule.right, static_cast<std::int32_t>(rank), rule.merged};
    if (rule.left == last_left && merges_.back().right == rule.right) {
      merges_.back() = merge;
      continue;
    }
    last_left = rule.left;
    begins_.resize(static_cast<std::size_t>(rule.left) + 1, merges_.size());
    merges_.push_back(merge);
  }
  begins_.push_back(merges_.size());
}

const BytePairMerges::Merge* BytePairMerges::find(std::int32_t left, std::int32_t right) const {
  const auto token = static_cast<std::size_t>(left);
  if (token + 1 >= begins_.size()) return nullptr;
  const Merge* end = merges_.data() + begins_[token + 1];
  const Merge* found =
      std::lower_bound(merges_.data() + begins_[token], end, right,
                       [](const Merge& merge, std::int32_t value) { return merge.right < value; });
  return found != end && found->right == right ? found : nullptr;
}

void BytePairMerges::encode(std::string_view word, Workspace& workspace,
                            std::vector<std::int32_t>& tokens) const {
  using Candidate = Workspace::Candidate;
  auto& symbols = workspace.symbols_;
  auto& queue = workspace.queue_;
  symbols.clear();
  queue.clear();
  const auto size = static_cast<std::int32_t>(word.size());
  for (std::int32_t i = 0; i < size; ++i) {
    const auto byte = static_cast<unsigned char>(word[static_cast<std::size_t>(i)]);
    symbols.push_back({byte_tokens_[byte], i - 1, i + 1 < size ? i + 1 : kNone});
  }
  const auto symbol = [&](std::int32_t i) -> Workspace::Symbol& {
    return symbols[static_cast<std::size_t>(i)];
  };
  const auto later = [](const Candidate& a, const Candidate& b) {
    return std::tie(a.rank, a.left) > std::tie(b.rank, b.left);
  };
  // Whether the symbol and its next have a merge, which then is the last of the queue.
  const auto append = [&](std::int32_t left) {
    const Merge* merge = find(symbol(left).token, symbol(symbol(left).next).token);
    if (merge != nullptr) queue.push_back({merge->rank, left, merge->merged});
    return merge != nullptr;
  };
  const auto enqueue = [&](std::int32_t left) {
    if (append(left)) std::push_heap(queue.begin(), queue.end(), later);
  };

  for (std::int32_t i = 0; i + 1 < size; ++i) append(i);
  std::make_heap(queue.begin(), queue.end(), later);
  while (!queue.empty()) {
    std::pop_heap(queue.begin(), queue.end(), later);
    const Candidate best = queue.back();
    queue.pop_back();
    Workspace::Symbol& left = symbol(best.left);
    if (left.token == kNone || left.next == kNone) continue;
    Workspace::Symbol& right = symbol(left.next);
    // An older pair of this symbol is recognised by its token, not by its rank, as in Hugging
    // Face's tokenizers: where two pairs make the same token, the older one's rank counts.
    const Merge* merge = find(left.token, right.token);
    if (merge == nullptr || merge->merged != best.merged) continue;
    left.token = best.merged;
    left.next = right.next;
    right.token = kNone;
    if (left.next != kNone) symbol(left.next).previous = best.left;
    if (left.previous != kNone) enqueue(left.previous);
    if (left.next != kNone) enqueue(best.left);
  }
  for (const Workspace::Symbol& remaining : symbols) {
    if (remaining.token != kNone) tokens.push_back(remaining.token);
  }
}

}  // namespace polyhead
