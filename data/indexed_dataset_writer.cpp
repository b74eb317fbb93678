#include "data/indexed_dataset_writer.h"

#include <filesystem>
#include <limits>
#include <system_error>
#include <type_traits>

#include "data/indexed_dataset.h"
#include "data/indexed_format.h"
#include "framework/error.h"
#include "framework/files/folder.h"

namespace polyhead {

namespace {

using indexed_format::kHeaderBytes;
using indexed_format::kMagic;
using indexed_format::kVersion;

constexpr std::size_t kBufferBytes = std::size_t{1} << 20;

std::string partial(const std::string& path) {
  return path + ".partial";
}

template <class Value>
void append(std::vector<std::byte>& bytes, const Value& value) {
  static_assert(std::is_trivially_copyable_v<Value>);
  const auto* begin = reinterpret_cast<const std::byte*>(&value);
  bytes.insert(bytes.end(), begin, begin + sizeof(Value));
}

std::filesystem::path without_leftover(const std::string& path) {
  std::filesystem::remove(path);
  return path;
}

template <class Stored>
void append_tokens(std::vector<std::byte>& bytes, std::span<const std::int32_t> tokens) {
  for (const std::int32_t token : tokens) append(bytes, static_cast<Stored>(token));
}

}  // namespace

IndexedDatasetWriter::IndexedDatasetWriter(const std::string& prefix, std::int64_t vocab_size)
    : prefix_(prefix), vocab_size_(vocab_size), narrow_(vocab_size < 65500) {
  if (const auto folder = std::filesystem::path(prefix).parent_path(); !folder.empty()) {
    std::filesystem::create_directories(folder);
  }
  bin_.emplace(without_leftover(partial(prefix_ + ".bin")));
}

IndexedDatasetWriter::~IndexedDatasetWriter() {
  std::error_code ignored;
  for (const char* extension : {".bin", ".idx", ".json", ".sizes"}) {
    std::filesystem::remove(partial(prefix_ + extension), ignored);
  }
}

void IndexedDatasetWriter::add_document(std::span<const std::int32_t> tokens) {
  require(tokens.size() <= std::numeric_limits<std::int32_t>::max(),
          "document {} has {} tokens, more than the format's 2^31 - 1; split it", documents(),
          tokens.size());
  for (const std::int32_t token : tokens) {
    POLYHEAD_CHECK(0 <= token && token < vocab_size_, "token {} of a vocabulary of {}", token,
                   vocab_size_);
  }
  if (narrow_) {
    append_tokens<std::uint16_t>(buffer_, tokens);
  } else {
    append_tokens<std::int32_t>(buffer_, tokens);
  }
  lengths_.push_back(static_cast<std::int32_t>(tokens.size()));
  tokens_ += static_cast<std::int64_t>(tokens.size());
  if (buffer_.size() < kBufferBytes) return;
  bin_->write(buffer_);
  buffer_.clear();
}

std::string IndexedDatasetWriter::write_index(const std::string& path) const {
  const TokenType type = narrow_ ? TokenType::kU16 : TokenType::kI32;
  std::vector<std::byte> index;
  index.reserve(kHeaderBytes + 20 * lengths_.size() + 8);
  for (const char character : kMagic) append(index, character);
  append(index, kVersion);
  append(index, type);
  append(index, std::uint64_t{lengths_.size()});
  append(index, std::uint64_t{lengths_.size() + 1});
  for (const std::int32_t length : lengths_) append(index, length);
  std::int64_t pointer = 0;
  for (const std::int32_t length : lengths_) {
    append(index, pointer);
    pointer += length * static_cast<std::int64_t>(size_of(type));
  }
  for (std::int64_t boundary = 0; boundary <= documents(); ++boundary) append(index, boundary);
  DurableFile file(without_leftover(path));
  file.write(index);
  file.finish();
  return file.hash();
}

DatasetDescription IndexedDatasetWriter::finish(DatasetDescription description,
                                                std::span<const TextSize> sizes) {
  POLYHEAD_CHECK(sizes.empty() || sizes.size() == lengths_.size(), "{} sizes of {} documents",
                 sizes.size(), documents());
  require(tokens_ > 0, "no text to write to {}: the input has no document with a token", prefix_);
  bin_->write(buffer_);
  bin_->finish();
  description.vocab_size = vocab_size_;
  description.documents = documents();
  description.tokens = tokens_;
  description.bin_xxh3 = bin_->hash();
  description.idx_xxh3 = write_index(partial(prefix_ + ".idx"));
  if (!sizes.empty()) {
    DurableFile file(without_leftover(partial(prefix_ + ".sizes")));
    file.write(text_sizes_file(sizes));
    file.finish();
    description.sizes_xxh3 = file.hash();
  }
  DurableFile json(without_leftover(partial(prefix_ + ".json")));
  json.write(to_json(description));
  json.finish();

  // An older index must not meet the new tokens.
  std::filesystem::remove(prefix_ + ".idx");
  std::filesystem::remove(prefix_ + ".sizes");
  for (const char* extension : {".bin", ".sizes", ".json", ".idx"}) {
    if (extension == std::string_view(".sizes") && sizes.empty()) continue;
    std::filesystem::rename(partial(prefix_ + extension), prefix_ + extension);
  }
  sync_folder(std::filesystem::path(prefix_).parent_path());
  return description;
}

}  // namespace polyhead
