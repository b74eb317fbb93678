#include "data/indexed_dataset.h"

#include <algorithm>
#include <cstring>

#include "data/indexed_format.h"
#include "framework/comm/hang.h"
#include "framework/error.h"
#include "framework/files/content_hash.h"
#include "framework/files/folder.h"

namespace polyhead {

namespace {

using indexed_format::kBoundaryCountOffset;
using indexed_format::kHeaderBytes;
using indexed_format::kMagic;
using indexed_format::kSequenceCountOffset;
using indexed_format::kTypeOffset;
using indexed_format::kVersion;
using indexed_format::kVersionOffset;

// The file behind a prefix, which is what a user may not have made yet.
MappedFile open_part(const std::string& prefix, const char* ending) {
  const std::filesystem::path path = prefix + ending;
  for (const std::string_view own : {".bin", ".idx"}) {
    require(!prefix.ends_with(own) || file_exists(path),
            "{}: a dataset is named without {}; write {}", prefix, own,
            prefix.substr(0, prefix.size() - own.size()));
  }
  require(file_exists(path),
          "{}: no such file; make the dataset with 'polyhead tokenize ... --output {}', or correct "
          "the path",
          path.string(), prefix);
  return MappedFile(path);
}

constexpr const char* kMakeAgain = "copy both files again or tokenize the text again";

// The `index`-th value of an unaligned array that begins `offset` bytes into the file.
template <class Value>
Value load(const MappedFile& file, std::size_t offset, std::int64_t index = 0) {
  Value value;
  std::memcpy(&value,
              file.bytes().data() + offset + static_cast<std::size_t>(index) * sizeof(Value),
              sizeof(Value));
  return value;
}

// Calls visit with a zero of the stored type.
template <class Visitor>
auto visit_type(TokenType type, Visitor&& visit) {
  switch (type) {
    case TokenType::kU8:
      return visit(std::uint8_t{});
    case TokenType::kI8:
      return visit(std::int8_t{});
    case TokenType::kI16:
      return visit(std::int16_t{});
    case TokenType::kI32:
      return visit(std::int32_t{});
    case TokenType::kI64:
      return visit(std::int64_t{});
    case TokenType::kU16:
      return visit(std::uint16_t{});
  }
  POLYHEAD_CHECK(false, "token type {}", static_cast<int>(type));
}

// A negative token becomes a huge unsigned one, so one comparison finds both kinds of stray.
bool inside(std::int64_t token, std::int64_t vocab_size) {
  return static_cast<std::uint64_t>(token) < static_cast<std::uint64_t>(vocab_size);
}

// Narrows tokens to i32; false if any lies outside [0, vocab_size).
template <class Stored>
bool copy_tokens(const Stored* source, std::span<std::int32_t> out, std::int64_t vocab_size) {
  bool all_inside = true;
  for (std::size_t i = 0; i < out.size(); ++i) {
    all_inside &= inside(source[i], vocab_size);
    out[i] = static_cast<std::int32_t>(source[i]);
  }
  return all_inside;
}

// Beyond this a start would wait for minutes.
constexpr std::size_t kHashedWhole = std::size_t{16} << 30;

// Of the size and 4096 pages that lie evenly over the file.
std::string sampled_hash(const MappedFile& file) {
  constexpr std::size_t kPages = 4096, kPageBytes = 4096;
  const std::span<const std::byte> bytes = file.bytes();
  ContentHash hash;
  const std::string size = fmt::format("{}", bytes.size());
  hash.add(std::as_bytes(std::span(size)));
  for (std::size_t page = 0; page < kPages; ++page) {
    hash.add(bytes.subspan((bytes.size() - kPageBytes) / kPages * page, kPageBytes));
  }
  return hash.hex();
}

// The hash of a file, which must be the recorded one; empty: none was recorded.
std::string verified_hash(const MappedFile& file, const std::string& recorded,
                          const std::string& prefix) {
  constexpr std::size_t kPieceBytes = std::size_t{64} << 20;
  const std::span<const std::byte> bytes = file.bytes();
  ContentHash hash;
  for (std::size_t begin = 0; begin < bytes.size(); begin += kPieceBytes) {
    hash.add(bytes.subspan(begin, std::min(kPieceBytes, bytes.size() - begin)));
    still_working();
  }
  const std::string found = hash.hex();
  require(recorded.empty() || found == recorded,
          "{} was altered since it was made: its hash is {}, {}.json records {}; {}",
          file.path().string(), found, prefix, recorded, kMakeAgain);
  return found;
}

}  // namespace

std::size_t size_of(TokenType type) {
  return visit_type(type, [](auto zero) { return sizeof(zero); });
}

IndexedDataset::IndexedDataset(const std::string& prefix)
    : prefix_(prefix),
      index_(open_part(prefix, ".idx")),
      tokens_(open_part(prefix, ".bin")),
      description_(read_dataset_description(prefix + ".json")) {
  check_header();
  check_layout();
  if (description_) {
    require(description_->documents == document_count_ && description_->tokens == token_count_,
            "{0}.json describes {1} documents and {2} tokens but {0}.idx holds {3} and {4}; {5}",
            prefix_, description_->documents, description_->tokens, document_count_, token_count_,
            kMakeAgain);
  }
}

void IndexedDataset::check_header() {
  const std::size_t size = index_.bytes().size();
  const std::string name = index_.path().string();
  require(size >= kHeaderBytes && index_.text().substr(0, kMagic.size()) == kMagic,
          "{} is not the index of a tokenized dataset (it does not begin with MMIDIDX); make one "
          "with 'polyhead tokenize'",
          name);
  const auto version = load<std::uint64_t>(index_, kVersionOffset);
  require(version == kVersion, "{}: version {} of the index format, only {} is known", name,
          version, kVersion);
  const auto code = load<std::uint8_t>(index_, kTypeOffset);
  require((code >= 1 && code <= 5) || code == 8,
          "{}: token type code {} is not that of an integer (1 to 5, 8)", name, code);
  type_ = static_cast<TokenType>(code);

  const auto sequences = load<std::uint64_t>(index_, kSequenceCountOffset);
  const auto boundaries = load<std::uint64_t>(index_, kBoundaryCountOffset);
  const std::size_t room = size - kHeaderBytes;
  require(sequences <= room / 12 && boundaries <= room / 8,
          "{}: {} sequences and {} document boundaries do not fit into {} bytes; {}", name,
          sequences, boundaries, size, kMakeAgain);
  const std::uint64_t expected = 12 * sequences + 8 * boundaries;
  require(room != expected + sequences || sequences == 0,
          "{}: holds several modes of data; only text is supported", name);
  require(room == expected,
          "{}: has {} bytes, but {} sequences and {} document boundaries take {}; {}", name, size,
          sequences, boundaries, kHeaderBytes + expected, kMakeAgain);
  document_count_ = static_cast<std::int64_t>(sequences);
  boundary_count_ = static_cast<std::int64_t>(boundaries);
}

void IndexedDataset::check_layout() {
  const std::string name = index_.path().string();
  const auto token_bytes = static_cast<std::int64_t>(size_of(type_));
  const auto bin_bytes = static_cast<std::int64_t>(tokens_.bytes().size());
  std::int64_t offset = 0;
  for (std::int64_t i = 0; i < document_count_; ++i) {
    const std::int64_t length = document_length(i);
    require(length >= 0, "{}: sequence {} has {} tokens; {}", name, i, length, kMakeAgain);
    const std::int64_t pointer = document_pointer(i);
    require(pointer == offset, "{}: sequence {} begins at byte {} instead of {}; {}", name, i,
            pointer, offset, kMakeAgain);
    require(length <= (bin_bytes - offset) / token_bytes,
            "{}: sequence {} ends at token {} of its {} bytes, beyond the end of {} ({} bytes); {}",
            name, i, length, offset + length * token_bytes, tokens_.path().string(), bin_bytes,
            kMakeAgain);
    offset += length * token_bytes;
  }
  require(offset == bin_bytes, "{}: has {} bytes, but its index describes {}; {}",
          tokens_.path().string(), bin_bytes, offset, kMakeAgain);
  token_count_ = offset / token_bytes;
  require(token_count_ > 0, "{} holds no tokens", prefix_);

  const std::size_t boundaries = kHeaderBytes + 12 * static_cast<std::size_t>(document_count_);
  require(boundary_count_ > 0, "{}: has no document boundaries; {}", name, kMakeAgain);
  std::int64_t previous = 0;
  for (std::int64_t i = 0; i < boundary_count_; ++i) {
    const auto boundary = load<std::int64_t>(index_, boundaries, i);
    require(boundary >= previous && (i > 0 || boundary == 0),
            "{}: document boundary {} is {} after {}; {}", name, i, boundary, previous, kMakeAgain);
    previous = boundary;
  }
  require(previous == document_count_, "{}: the last document ends at sequence {} of {}; {}", name,
          previous, document_count_, kMakeAgain);
}

std::int64_t IndexedDataset::document_length(std::int64_t document) const {
  return load<std::int32_t>(index_, kHeaderBytes, document);
}

std::int64_t IndexedDataset::document_pointer(std::int64_t document) const {
  const std::size_t pointers = kHeaderBytes + 4 * static_cast<std::size_t>(document_count_);
  return load<std::int64_t>(index_, pointers, document);
}

void IndexedDataset::read(std::int64_t document, std::int64_t begin, std::span<std::int32_t> out,
                          std::int64_t vocab_size) const {
  POLYHEAD_CHECK(0 <= document && document < document_count_, "document {} of {}", document,
                 document_count_);
  const auto count = static_cast<std::int64_t>(out.size());
  POLYHEAD_CHECK(0 <= begin && begin + count <= document_length(document),
                 "tokens [{}, {}) of document {}, which has {}", begin, begin + count, document,
                 document_length(document));
  const std::byte* source = tokens_.bytes().data() + document_pointer(document);
  visit_type(type_, [&]<class Stored>(Stored) {
    const Stored* stored = reinterpret_cast<const Stored*>(source) + begin;
    if (copy_tokens(stored, out, vocab_size)) return;
    const Stored* stray = std::find_if_not(
        stored, stored + count, [&](std::int64_t token) { return inside(token, vocab_size); });
    fail(
        "{}: token {} at offset {} of document {} lies outside the vocabulary of {}; set "
        "model.vocab_size to the tokenizer's, or tokenize with this model's tokenizer",
        tokens_.path().string(), *stray, begin + (stray - stored), document, vocab_size);
  });
}

std::string IndexedDataset::fingerprint() const {
  const DatasetDescription recorded = description_.value_or(DatasetDescription());
  const bool whole = tokens_.bytes().size() <= kHashedWhole;
  ContentHash hash;
  for (const std::string& part :
       {verified_hash(index_, recorded.idx_xxh3, prefix_),
        whole ? verified_hash(tokens_, recorded.bin_xxh3, prefix_) : sampled_hash(tokens_)}) {
    hash.add(std::as_bytes(std::span(part)));
  }
  return hash.hex();
}

}  // namespace polyhead
