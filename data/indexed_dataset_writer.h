// Writes a dataset document by document (data/indexed_dataset.h describes the files).
//
// Tokens are stored as u16 where the vocabulary has fewer than 65,500 entries and as i32 otherwise,
// as Megatron's preprocess_data does. Memory: four bytes per document. The files appear
// together in finish(), the index last, so that a dataset with an index is whole; without finish()
// nothing appears and an older dataset of that name stays.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "data/dataset_description.h"
#include "data/text_sizes.h"
#include "framework/files/durable_file.h"

namespace polyhead {

class IndexedDatasetWriter {
 public:
  IndexedDatasetWriter(const std::string& prefix, std::int64_t vocab_size);
  ~IndexedDatasetWriter();
  IndexedDatasetWriter(const IndexedDatasetWriter&) = delete;
  IndexedDatasetWriter& operator=(const IndexedDatasetWriter&) = delete;

  void add_document(std::span<const std::int32_t> tokens);

  std::int64_t documents() const { return static_cast<std::int64_t>(lengths_.size()); }
  std::int64_t tokens() const { return tokens_; }

  // Fills in what the writer knows (documents, tokens, hashes, vocabulary) and returns the whole.
  // sizes: one per document, or none where the text is not known.
  DatasetDescription finish(DatasetDescription description, std::span<const TextSize> sizes = {});

 private:
  std::string write_index(const std::string& path) const;  // returns its hash

  std::string prefix_;
  std::int64_t vocab_size_;
  bool narrow_;  // u16
  std::vector<std::int32_t> lengths_;
  std::int64_t tokens_ = 0;
  std::vector<std::byte> buffer_;  // stored tokens that the file has not received yet
  std::optional<DurableFile> bin_;
};

}  // namespace polyhead
