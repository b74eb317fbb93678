#include "data/text_sizes.h"

#include <cstring>

#include "data/indexed_dataset.h"
#include "framework/error.h"
#include "framework/files/content_hash.h"
#include "framework/files/folder.h"
#include "framework/files/mapped_file.h"

namespace polyhead {

static_assert(sizeof(TextSize) == 16);

std::vector<std::byte> text_sizes_file(std::span<const TextSize> sizes) {
  const std::span<const std::byte> bytes = std::as_bytes(sizes);
  return {bytes.begin(), bytes.end()};
}

std::optional<std::vector<TextSize>> read_text_sizes(const IndexedDataset& dataset) {
  if (!dataset.description() || dataset.description()->sizes_xxh3.empty()) return std::nullopt;
  const std::string path = dataset.prefix() + ".sizes";
  if (!file_exists(path)) return std::nullopt;
  const MappedFile file(path);
  const auto documents = static_cast<std::size_t>(dataset.document_count());
  require(file.bytes().size() == documents * sizeof(TextSize) &&
              content_hash(file.bytes()) == dataset.description()->sizes_xxh3,
          "{}: is not the file that was written with {}.json; put the old one back or tokenize the "
          "text again",
          path, dataset.prefix());
  std::vector<TextSize> sizes(documents);
  std::memcpy(sizes.data(), file.bytes().data(), file.bytes().size());
  const DatasetDescription& whole = *dataset.description();
  for (std::size_t i = 0; i < documents; ++i) {
    const TextSize& size = sizes[i];
    require(
        0 < size.bytes && size.bytes <= whole.bytes && 0 < size.words && size.words <= whole.words,
        "{}: document {} has {} bytes and {} words of {} and {}; tokenize the text again", path, i,
        size.bytes, size.words, whole.bytes, whole.words);
  }
  return sizes;
}

}  // namespace polyhead
