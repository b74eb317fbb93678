// How long each document was before tokenization, written by `polyhead tokenize` to PREFIX.sizes:
// two u64 a document, little endian, without a header: PREFIX.json has the file's hash. Measures
// per byte and per word of single documents need it; a dataset made before it existed has none.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace polyhead {

class IndexedDataset;

// Of a document as it was read, before any detokenizer.
struct TextSize {
  std::int64_t bytes = 0;  // in UTF-8
  std::int64_t words = 0;  // as count_words() counts them
};

std::vector<std::byte> text_sizes_file(std::span<const TextSize> sizes);

// One per document; empty where there is no file or PREFIX.json records none. Throws Error, naming
// the file, where it was changed.
std::optional<std::vector<TextSize>> read_text_sizes(const IndexedDataset& dataset);

}  // namespace polyhead
