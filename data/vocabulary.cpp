#include "data/vocabulary.h"

#include "data/tokenizer.h"
#include "framework/error.h"
#include "framework/files/content_hash.h"
#include "framework/files/folder.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

// The dataset whose description stands for all; null where none has one.
const IndexedDataset* described_dataset(const std::vector<IndexedDataset>& datasets) {
  const IndexedDataset* first = nullptr;
  for (const IndexedDataset& dataset : datasets) {
    if (!dataset.description()) continue;
    if (first == nullptr) first = &dataset;
    require(
        dataset.description()->tokenizer_fingerprint == first->description()->tokenizer_fingerprint,
        "{} and {} were made with different tokenizers; tokenize both with the same",
        first->prefix(), dataset.prefix());
  }
  return first;
}

Vocabulary vocabulary_of(const Tokenizer& tokenizer) {
  Vocabulary vocabulary{tokenizer.vocab_size(), tokenizer.eod_id(), tokenizer.fingerprint(), {}};
  if (!tokenizer.file().empty()) vocabulary.tokenizer_files = {tokenizer.file()};
  return vocabulary;
}

// Needs the tokenizer's file but not the library that reads it.
Vocabulary vocabulary_of(const IndexedDataset& dataset) {
  const DatasetDescription& description = *dataset.description();
  Vocabulary vocabulary{
      description.vocab_size, description.eod_id, description.tokenizer_fingerprint, {}};
  if (description.tokenizer_file.empty()) return vocabulary;
  const auto folder = std::filesystem::path(dataset.prefix()).parent_path();
  // As it stands: "link/.." is not the folder that holds the link.
  const auto file = folder / description.tokenizer_file;
  require(file_exists(file),
          "{}.json names the tokenizer {}, which is not there; put it back or name it with "
          "data.tokenizer",
          dataset.prefix(), file.string());
  require(content_hash(MappedFile(file).bytes()) == description.tokenizer_fingerprint,
          "{} is not the tokenizer that made {}: it was changed since; put the old one back or "
          "tokenize again",
          file.string(), dataset.prefix());
  vocabulary.tokenizer_files = {file};
  return vocabulary;
}

}  // namespace

Vocabulary find_vocabulary(const std::vector<IndexedDataset>& datasets,
                           const std::optional<std::string>& tokenizer,
                           std::optional<std::int64_t> model_vocab_size) {
  const IndexedDataset* described = described_dataset(datasets);
  Vocabulary vocabulary;
  if (tokenizer) {
    vocabulary = vocabulary_of(Tokenizer(*tokenizer));
    require(described == nullptr ||
                described->description()->tokenizer_fingerprint == vocabulary.tokenizer_fingerprint,
            "{} was not made with the tokenizer {}; tokenize it again or leave out data.tokenizer",
            described == nullptr ? "" : described->prefix(), *tokenizer);
  } else if (described != nullptr) {
    vocabulary = vocabulary_of(*described);
  }
  if (!model_vocab_size) {
    require(vocabulary.size > 0,
            "{0}: no {0}.json tells the vocabulary of these tokens; set data.tokenizer or "
            "model.vocab_size",
            datasets.front().prefix());
    return vocabulary;
  }
  require(
      vocabulary.size <= *model_vocab_size,
      "model.vocab_size is {0}, but the tokenizer of {1} has {2} tokens; set it to {2} or leave "
      "it out",
      *model_vocab_size, datasets.front().prefix(), vocabulary.size);
  vocabulary.size = *model_vocab_size;
  return vocabulary;
}

}  // namespace polyhead
