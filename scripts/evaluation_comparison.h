// Checkpoints against the first of them on the same text: the paired bootstrap.
//
// The units that are drawn are the documents. A text of one document is a single stream: there the
// units are blocks of consecutive windows, cube root of their number each, because the losses of
// neighbouring windows depend on each other.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "data/indexed_dataset.h"
#include "data/paired_bootstrap.h"
#include "scripts/evaluation.h"

namespace polyhead {

struct Comparison {
  std::string checkpoint;
  std::string baseline;
  std::string measure;  // what log-perplexity is per: "token", or "byte" across tokenizers
  std::string unit;     // "document" or "block of N windows"
  std::int64_t units = 0;
  // Of log-perplexity, checkpoint less baseline, in nats; absent where the two cannot be paired.
  std::optional<PairedDifference> difference;
  std::string why_not;  // where it is absent
};

// Throws Error where checkpoints are to be compared on different texts: other documents, or the
// same with another detokenizer. Datasets of one prefix need no description.
void require_same_text(const std::vector<const IndexedDataset*>& datasets);

// One for each but the first. Documents without a scored token are left out.
std::vector<Comparison> compare_with_first(const std::vector<CheckpointEvaluation>& evaluations);

}  // namespace polyhead
