// The samples of a run, by position.
//
// A position counts samples through the whole run and is the only state: batch(first, count) is a
// pure function of it. So a checkpoint stores one number; ranks of data parallelism that take
// consecutive chunks of a global batch (rank r of P: first + r * count / P) see every sample
// exactly once, also when a later run has another number of ranks or another batch size.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "data/blend.h"
#include "data/data_source.h"
#include "data/document_split.h"
#include "data/indexed_dataset.h"
#include "data/sample_order.h"
#include "data/vocabulary.h"
#include "framework/tensor.h"

namespace polyhead {

struct TrainingDataOptions {
  std::vector<DataSource> sources;
  std::string key = "data.train";  // that names the sources, for messages
  std::string split;               // see split_documents
  DatasetPart part = DatasetPart::kTrain;
  std::int64_t sequence_length = 0;
  std::uint64_t seed = 0;
  SampleOrder order = SampleOrder::kPolyhead;
  std::int64_t num_samples = 0;            // of the whole run; read by kMegatron alone
  std::optional<std::int64_t> vocab_size;  // of the model; absent: the tokenizer's
  std::optional<std::string> tokenizer;    // absent: the one that the descriptions name
  bool eod_mask_loss = false;              // no loss where the input is eod
  bool attend_across_documents = true;
};

// N = count * T.
struct Batch {
  Tensor tokens;                   // (N) i32
  Tensor targets;                  // (N) i32, -1 where there is no loss
  Tensor document_start;           // (N) i32, in [0, T): where the token's document begins in its
                                   // sample; none where documents attend to each other
  std::int64_t valid_targets = 0;  // targets that are not -1
};

// Of two fingerprints. A dataset without a description knows no tokenizer, and fits any.
inline bool same_tokenizer(const std::string& one, const std::string& other) {
  return one == other || one.empty() || other.empty();
}

class TrainingData {
 public:
  // Throws Error for damaged datasets, parts too small for one sample, and what
  // find_vocabulary refuses.
  explicit TrainingData(const TrainingDataOptions& options);

  // Samples first ... first + count - 1. Not for concurrent use.
  Batch batch(std::int64_t first, std::int64_t count);

  std::int64_t vocab_size() const { return vocabulary_.size; }
  std::optional<std::int32_t> eod_id() const { return vocabulary_.eod_id; }
  // Tokenizer::fingerprint(); empty where no tokenizer is known.
  const std::string& tokenizer_fingerprint() const { return vocabulary_.tokenizer_fingerprint; }
  const std::vector<std::filesystem::path>& tokenizer_files() const {
    return vocabulary_.tokenizer_files;
  }
  // One epoch of this part of all sources.
  std::int64_t token_count() const;
  // IndexedDataset::fingerprint() of each source, in the order of the sources: reads them whole.
  std::vector<std::string> fingerprints() const;

 private:
  struct Source {
    IndexedDataset dataset;
    DocumentRange documents;
    std::variant<EpochOrder, MegatronOrder> order;  // counts documents from documents.begin
  };

  void add_source(IndexedDataset dataset, std::int64_t num_samples);
  void read_sample(std::int64_t position, std::int64_t row, Batch& batch);

  TrainingDataOptions options_;
  Vocabulary vocabulary_;
  std::vector<Source> sources_;
  std::optional<Blend> blend_;
  std::vector<std::int32_t> sample_;  // T + 1 tokens, reused
};

}  // namespace polyhead
