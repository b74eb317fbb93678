#include "data/indexed_dataset.h"

#include <algorithm>
#include <cstring>

#include "data/indexed_format.h"
#include "framework/error.h"
#include "framework/files/content_hash.h"

namespace polyhead {

namespace {

using indexed_format::kBoundaryCountOffset;
using indexed_format::kHeaderBytes;
using indexed_format::kMagic;
using indexed_format::kSequenceCountOffset;
using indexed_format::kTypeOffset;
using indexed_format::kVersion;
using indexed_format::kVersionOffset;

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

}  // namespace

std::size_t size_of(TokenType type) {
  return visit_type(type, [](auto zero) { return sizeof(zero); });
}

IndexedDataset::IndexedDataset(const std::string& prefix)
    : prefix_(prefix),
      index_(prefix + ".idx"),
      tokens_(prefix + ".bin"),
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
  constexpr std::size_t kBlocks = 256, kBlockBytes = 4096;
  ContentHash hash;
  hash.add(index_.bytes());
  const std::span<const std::byte> bin = tokens_.bytes();
  const std::size_t step = std::max(kBlockBytes, bin.size() / kBlocks);
  for (std::size_t begin = 0; begin < bin.size(); begin += step) {
    hash.add(bin.subspan(begin, std::min(kBlockBytes, bin.size() - begin)));
  }
  const std::string rest =
      fmt::format("{} {}", bin.size(), description_ ? description_->bin_xxh3 : "");
  hash.add(std::as_bytes(std::span(rest)));
  return hash.hex();
}

}  // namespace polyhead
