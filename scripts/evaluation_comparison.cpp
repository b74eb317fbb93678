#include "scripts/evaluation_comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "framework/error.h"

namespace polyhead {
namespace {

constexpr std::uint64_t kSeed = 1234;

const DatasetDescription& known_text(const IndexedDataset& dataset) {
  require(dataset.description().has_value(),
          "{0}.json is missing: without it nobody can tell whether {0} is the same text; tokenize "
          "the text with polyhead tokenize",
          dataset.prefix());
  return *dataset.description();
}

// By the hash of the text where both datasets record it.
bool same_text(const DatasetDescription& first, const DatasetDescription& other) {
  if (!first.text_xxh3.empty() && !other.text_xxh3.empty()) {
    return first.text_xxh3 == other.text_xxh3;
  }
  return first.bytes == other.bytes && first.words == other.words &&
         first.documents == other.documents;
}

void pair_documents(const CheckpointEvaluation& first, const CheckpointEvaluation& other,
                    Comparison& comparison, std::vector<PairedUnit>& units) {
  const bool per_token = comparison.measure == "token";
  for (std::size_t i = 0; i < first.documents.size(); ++i) {
    const DocumentScore &a = first.documents[i], &b = other.documents[i];
    if (per_token && a.tokens != b.tokens) {
      comparison.why_not = "other tokens were scored; give both the same --context and --stride";
      return;
    }
    if (!per_token && !(a.size && b.size)) {
      comparison.why_not =
          "a dataset has no .sizes file, which counts the bytes of documents; tokenize again";
      return;
    }
    if (a.tokens == 0 || b.tokens == 0) continue;
    units.push_back(
        {b.nll - a.nll, static_cast<double>(per_token ? a.tokens : a.size.value().bytes)});
  }
}

bool same_windows(const CheckpointEvaluation& first, const CheckpointEvaluation& other) {
  return std::equal(first.windows.begin(), first.windows.end(), other.windows.begin(),
                    other.windows.end(),
                    [](const auto& a, const auto& b) { return a.tokens == b.tokens; });
}

std::vector<PairedUnit> blocks_of_windows(const CheckpointEvaluation& first,
                                          const CheckpointEvaluation& other,
                                          std::size_t windows_per_block) {
  std::vector<PairedUnit> blocks;
  for (std::size_t i = 0; i < first.windows.size(); ++i) {
    if (i % windows_per_block == 0) blocks.emplace_back();
    blocks.back().difference += other.windows[i].nll - first.windows[i].nll;
    blocks.back().length += static_cast<double>(first.windows[i].tokens);
  }
  return blocks;
}

Comparison compare(const CheckpointEvaluation& first, const CheckpointEvaluation& other) {
  Comparison comparison{other.checkpoint,
                        first.checkpoint,
                        share_tokenizer({first, other}) ? "token" : "byte",
                        "document",
                        0,
                        {},
                        ""};
  if (comparison.measure == "byte" && !(first.bits_per_byte && other.bits_per_byte)) {
    comparison.why_not = "the windows do not score the whole text";
    return comparison;
  }
  std::vector<PairedUnit> units;
  pair_documents(first, other, comparison, units);
  if (units.empty() && comparison.why_not.empty()) {
    comparison.why_not = "no document has a token that both scored";
  }
  if (!comparison.why_not.empty()) return comparison;
  if (units.size() == 1 && comparison.measure == "token" && same_windows(first, other)) {
    const auto size = static_cast<std::size_t>(
        std::ceil(std::cbrt(static_cast<double>(first.windows.size())) - 1e-9));
    units = blocks_of_windows(first, other, size);
    comparison.unit = fmt::format("block of {} windows", size);
  }
  comparison.units = static_cast<std::int64_t>(units.size());
  comparison.difference = paired_bootstrap(units, kSeed);
  return comparison;
}

}  // namespace

void require_same_text(const std::vector<const IndexedDataset*>& datasets) {
  for (const IndexedDataset* dataset : datasets) {
    const IndexedDataset& first = *datasets.front();
    if (dataset->prefix() == first.prefix()) continue;
    const DatasetDescription &own = known_text(first), &other = known_text(*dataset);
    require(same_text(own, other),
            "--data {} ({} documents, {} bytes) and {} ({} documents, {} bytes) are different "
            "texts: nothing compares; tokenize the same files in the same way for both",
            first.prefix(), own.documents, own.bytes, dataset->prefix(), other.documents,
            other.bytes);
    require(own.detokenizer == other.detokenizer,
            "--data {} and {} were tokenized with another --detokenize; use the same for both",
            first.prefix(), dataset->prefix());
  }
}

std::vector<Comparison> compare_with_first(const std::vector<CheckpointEvaluation>& evaluations) {
  std::vector<Comparison> comparisons;
  for (std::size_t i = 1; i < evaluations.size(); ++i) {
    comparisons.push_back(compare(evaluations.front(), evaluations[i]));
  }
  return comparisons;
}

}  // namespace polyhead
