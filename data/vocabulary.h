// What a run's datasets and its tokenizer say of the tokens, and whether they agree.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/indexed_dataset.h"

namespace polyhead {

struct Vocabulary {
  std::int64_t size = 0;               // of the model
  std::optional<std::int32_t> eod_id;  // none where no tokenizer is known
  std::string tokenizer_fingerprint;   // empty likewise
  std::vector<std::filesystem::path> tokenizer_files;
};

// tokenizer: as Tokenizer takes it; absent: the one that the descriptions name, where there are
// any. model_vocab_size: absent: the tokenizer's.
// Throws Error where datasets and tokenizer differ, a named file is missing or was changed, the
// model has fewer tokens than the tokenizer, or nothing tells the size.
Vocabulary find_vocabulary(const std::vector<IndexedDataset>& datasets,
                           const std::optional<std::string>& tokenizer,
                           std::optional<std::int64_t> model_vocab_size);

}  // namespace polyhead
