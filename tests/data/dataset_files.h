// Datasets on disk for tests.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/indexed_dataset_writer.h"

namespace polyhead::testing {

using Documents = std::vector<std::vector<std::int32_t>>;

// Token t of document d is unique: 1000 d + t, so that any token tells where it came from.
inline Documents numbered_documents(const std::vector<std::int32_t>& lengths) {
  Documents documents(lengths.size());
  for (std::size_t d = 0; d < lengths.size(); ++d) {
    for (std::int32_t t = 0; t < lengths[d]; ++t) {
      documents[d].push_back(static_cast<std::int32_t>(1000 * d) + t);
    }
  }
  return documents;
}

// Returns the prefix.
inline std::string write_dataset(const std::filesystem::path& prefix, const Documents& documents,
                                 std::int64_t vocab_size, std::int32_t eod_id = 0) {
  IndexedDatasetWriter writer(prefix.string(), vocab_size);
  for (const auto& document : documents) writer.add_document(document);
  DatasetDescription description;
  description.tokenizer = "numbers";
  description.tokenizer_fingerprint = "numbers";
  description.eod_id = eod_id;
  writer.finish(description);
  return prefix.string();
}

}  // namespace polyhead::testing
