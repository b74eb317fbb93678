#include <algorithm>
#include <numeric>

#include "data/numpy_shuffle.h"
#include "data/sample_order.h"
#include "framework/error.h"

namespace polyhead {
namespace {

// Appends the documents of `epochs` epochs, shuffled together.
void append_epochs(std::vector<std::int64_t>& index, std::int64_t documents, std::int64_t epochs,
                   std::mt19937& generator) {
  const auto begin = static_cast<std::ptrdiff_t>(index.size());
  for (std::int64_t i = 0; i < documents * epochs; ++i) index.push_back(i % documents);
  numpy_shuffle(std::span(index.begin() + begin, index.end()), generator);
}

}  // namespace

std::vector<MegatronOrder::Position> megatron_sample_index(
    const std::vector<std::int32_t>& lengths, const std::vector<std::int64_t>& document_index,
    std::int64_t sequence_length, std::int64_t samples) {
  std::vector<MegatronOrder::Position> index = {{0, 0}};
  index.reserve(static_cast<std::size_t>(samples) + 1);
  MegatronOrder::Position at;
  for (std::int64_t sample = 0; sample < samples; ++sample) {
    std::int64_t missing = sequence_length + 1;
    while (missing > 0) {
      const std::int64_t document = document_index[static_cast<std::size_t>(at.document)];
      const std::int64_t rest = lengths[static_cast<std::size_t>(document)] - at.offset;
      if (rest >= missing) {
        at.offset += missing - 1;  // the last target is the next sample's first input
      } else {
        ++at.document;
        at.offset = 0;
      }
      missing -= rest;
    }
    index.push_back(at);
  }
  return index;
}

MegatronOrder::MegatronOrder(std::vector<std::int32_t> lengths, std::int64_t sequence_length,
                             std::uint64_t seed, std::int64_t num_samples)
    : lengths_(std::move(lengths)) {
  const std::int64_t epoch_tokens =
      std::accumulate(lengths_.begin(), lengths_.end(), std::int64_t{0});
  require(epoch_tokens > 0, "the source holds no tokens");
  const auto samples_in = [&](std::int64_t epochs) {
    return (epochs * epoch_tokens - 1) / sequence_length;
  };
  // The fewest epochs whose tokens make num_samples samples.
  const std::int64_t epochs =
      std::max<std::int64_t>(1, (num_samples * sequence_length + epoch_tokens) / epoch_tokens);
  // The last epoch is shuffled by itself when less than four fifths of it are used, so that its
  // few samples do not crowd into the others.
  const std::int64_t used_of_last = num_samples - samples_in(epochs - 1);
  const bool separate_final_epoch =
      epochs > 1 && used_of_last < static_cast<std::int64_t>(0.80 * samples_in(1));

  std::mt19937 generator(static_cast<std::uint32_t>(seed));
  const auto documents = static_cast<std::int64_t>(lengths_.size());
  append_epochs(document_index_, documents, separate_final_epoch ? epochs - 1 : epochs, generator);
  if (separate_final_epoch) append_epochs(document_index_, documents, 1, generator);

  const std::int64_t total = samples_in(epochs);
  sample_index_ = megatron_sample_index(lengths_, document_index_, sequence_length, total);
  shuffle_index_.resize(static_cast<std::size_t>(total));
  std::iota(shuffle_index_.begin(), shuffle_index_.end(), 0);
  const auto together =
      shuffle_index_.begin() + (separate_final_epoch ? samples_in(epochs - 1) : total);
  numpy_shuffle(std::span(shuffle_index_.begin(), together), generator);
  numpy_shuffle(std::span(together, shuffle_index_.end()), generator);
}

std::vector<TokenRange> MegatronOrder::sample(std::int64_t index) const {
  require(0 <= index && index < num_samples(),
          "sample {} lies beyond the {} that sample_order: megatron fixed at the start of the run; "
          "train for fewer steps, or start a new run with more",
          index, num_samples());
  const auto first = static_cast<std::size_t>(shuffle_index_[static_cast<std::size_t>(index)]);
  const Position begin = sample_index_[first], end = sample_index_[first + 1];
  std::vector<TokenRange> ranges;
  for (std::int64_t at = begin.document; at <= end.document; ++at) {
    const std::int64_t document = document_index_[static_cast<std::size_t>(at)];
    const std::int64_t from = at == begin.document ? begin.offset : 0;
    const std::int64_t to =
        at == end.document ? end.offset + 1 : lengths_[static_cast<std::size_t>(document)];
    if (from < to) ranges.push_back({document, from, to});
  }
  return ranges;
}

}  // namespace polyhead
