#include <algorithm>
#include <numeric>

#include "data/numpy_shuffle.h"
#include "data/sample_order.h"
#include "framework/error.h"
#include "framework/random.h"

namespace polyhead {
namespace {

std::vector<std::int64_t> shuffled(std::size_t count, std::mt19937& generator) {
  std::vector<std::int64_t> order(count);
  std::iota(order.begin(), order.end(), 0);
  numpy_shuffle(std::span(order), generator);
  return order;
}

}  // namespace

EpochOrder::EpochOrder(std::vector<std::int32_t> lengths, std::int64_t sequence_length,
                       std::uint64_t seed, std::int64_t source)
    : lengths_(std::move(lengths)),
      sequence_length_(sequence_length),
      seed_(seed),
      source_(source) {
  const std::int64_t tokens = std::accumulate(lengths_.begin(), lengths_.end(), std::int64_t{0});
  require(tokens > sequence_length,
          "{} tokens are too few for a sample of sequence_length {} and its last target; lower "
          "sequence_length or add text",
          tokens, sequence_length);
  samples_per_epoch_ = (tokens - 1) / sequence_length;
}

void EpochOrder::enter(std::int64_t epoch) {
  const std::string name = fmt::format("sample order {} {} {}", seed_, source_, epoch);
  std::mt19937 generator(static_cast<std::uint32_t>(stream_id(name)));
  documents_ = shuffled(lengths_.size(), generator);
  samples_ = shuffled(static_cast<std::size_t>(samples_per_epoch_), generator);
  ends_.resize(documents_.size());
  std::int64_t end = 0;
  for (std::size_t i = 0; i < documents_.size(); ++i) {
    end += lengths_[static_cast<std::size_t>(documents_[i])];
    ends_[i] = end;
  }
  epoch_ = epoch;
}

std::vector<TokenRange> EpochOrder::sample(std::int64_t index) {
  POLYHEAD_CHECK(index >= 0, "sample {}", index);
  if (const std::int64_t epoch = index / samples_per_epoch_; epoch != epoch_) enter(epoch);
  std::int64_t begin =
      samples_[static_cast<std::size_t>(index % samples_per_epoch_)] * sequence_length_;
  const std::int64_t end = begin + sequence_length_ + 1;

  std::vector<TokenRange> ranges;
  auto document = std::upper_bound(ends_.begin(), ends_.end(), begin) - ends_.begin();
  for (; begin < end; ++document) {
    const auto i = static_cast<std::size_t>(document);
    const std::int64_t first = ends_[i] - lengths_[static_cast<std::size_t>(documents_[i])];
    const std::int64_t stop = std::min(end, ends_[i]);
    if (stop > begin) ranges.push_back({documents_[i], begin - first, stop - first});
    begin = stop;
  }
  return ranges;
}

}  // namespace polyhead
