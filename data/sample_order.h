// Which tokens a sample of a source holds: T + 1 of them, of which the first T are inputs and the
// last T targets.
//
// Documents are packed: laid end to end in a shuffled order and cut every T tokens, so neighbouring
// samples overlap by the one token that is target here and input there. The samples are then
// shuffled too.
#pragma once

#include <cstdint>
#include <vector>

namespace polyhead {

// Tokens [begin, end) of a document; a sample is a list of these, none of them empty.
struct TokenRange {
  std::int64_t document = 0;
  std::int64_t begin = 0;
  std::int64_t end = 0;

  bool operator==(const TokenRange&) const = default;
};

// Polyhead's order: epoch e is cut and shuffled by itself, with a seed that depends on
// (seed, source, e) alone, so the order knows nothing of the length of the run, the batch size or
// the number of ranks. The last tokens of an epoch that fill no sample (fewer than T + 1) are left
// out of that epoch; the next one, in another order, leaves out others.
// Sample i lies in epoch i / samples_per_epoch(). Entering an epoch costs O(documents + samples)
// and memory for its order (16 bytes per document, 8 per sample); a sample then costs O(log).
class EpochOrder {
 public:
  // lengths: tokens of each document. source: the position of this source in the list of sources.
  EpochOrder(std::vector<std::int32_t> lengths, std::int64_t sequence_length, std::uint64_t seed,
             std::int64_t source);

  std::int64_t samples_per_epoch() const { return samples_per_epoch_; }
  // index counts through all epochs. Not for concurrent use: it keeps the epoch it read last.
  std::vector<TokenRange> sample(std::int64_t index);

 private:
  void enter(std::int64_t epoch);

  std::vector<std::int32_t> lengths_;
  std::int64_t sequence_length_;
  std::uint64_t seed_;
  std::int64_t source_;
  std::int64_t samples_per_epoch_ = 0;

  std::int64_t epoch_ = -1;
  std::vector<std::int64_t> documents_;  // in the epoch's order
  std::vector<std::int64_t> ends_;       // tokens of the epoch up to and with documents_[i]
  std::vector<std::int64_t> samples_;    // the i-th sample begins at token samples_[i] * T
};

// Megatron-LM's GPTDataset order (core_v0.12). All epochs of the run are cut as one stream, so a
// sample may span two; its order depends on num_samples, which is therefore fixed at the start.
// Memory: 8 bytes per document and epoch, 24 per sample.
class MegatronOrder {
 public:
  // The order holds at least num_samples samples.
  MegatronOrder(std::vector<std::int32_t> lengths, std::int64_t sequence_length, std::uint64_t seed,
                std::int64_t num_samples);

  std::int64_t num_samples() const { return static_cast<std::int64_t>(shuffle_index_.size()); }
  std::vector<TokenRange> sample(std::int64_t index) const;

  // Where a sample begins in the stream of documents; the one after the last tells the end.
  struct Position {
    std::int64_t document = 0;  // position in document_index
    std::int64_t offset = 0;    // token within that document

    bool operator==(const Position&) const = default;
  };
  const std::vector<std::int64_t>& document_index() const { return document_index_; }
  const std::vector<Position>& sample_index() const { return sample_index_; }
  const std::vector<std::int64_t>& shuffle_index() const { return shuffle_index_; }

 private:
  std::vector<std::int32_t> lengths_;
  std::vector<std::int64_t> document_index_;
  std::vector<Position> sample_index_;
  std::vector<std::int64_t> shuffle_index_;
};

// Megatron's sample_index for a given order of documents: `samples` + 1 positions.
std::vector<MegatronOrder::Position> megatron_sample_index(
    const std::vector<std::int32_t>& lengths, const std::vector<std::int64_t>& document_index,
    std::int64_t sequence_length, std::int64_t samples);

}  // namespace polyhead
