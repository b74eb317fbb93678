// Tokenized documents in Megatron's format, memory-mapped.
//
// PREFIX.bin holds raw tokens; PREFIX.idx, little endian and unaligned, tells where each begins:
//   0   9 bytes  "MMIDIDX\0\0"
//   9   u64      version = 1
//   17  u8       token type: 1 u8, 2 i8, 3 i16, 4 i32, 5 i64, 8 u16
//   18  u64      N, the number of sequences
//   26  u64      D, the number of document boundaries
//   34  i32[N]   sequence lengths in tokens
//       i64[N]   byte offsets into .bin, without gaps
//       i64[D]   the first sequence of each document: 0 first, N last
// As Megatron's GPT datasets do, we take each sequence for a document: the two differ only where
// documents were split into sentences.
//
// Opening reads the index once, checks all of it against the sizes of both files, and touches no
// token; that a token lies in the vocabulary is checked when it is read.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "data/dataset_description.h"
#include "framework/files/mapped_file.h"

namespace polyhead {

enum class TokenType : std::uint8_t { kU8 = 1, kI8 = 2, kI16 = 3, kI32 = 4, kI64 = 5, kU16 = 8 };
std::size_t size_of(TokenType type);

class IndexedDataset {
 public:
  // Throws Error, naming file, value and rule, for files that break the format.
  explicit IndexedDataset(const std::string& prefix);

  const std::string& prefix() const { return prefix_; }
  const std::optional<DatasetDescription>& description() const { return description_; }
  std::int64_t document_count() const { return document_count_; }
  std::int64_t token_count() const { return token_count_; }
  std::int64_t document_length(std::int64_t document) const;

  // Copies tokens [begin, begin + out.size()) of a document; throws Error, naming file, document
  // and offset, for one outside [0, vocab_size).
  void read(std::int64_t document, std::int64_t begin, std::span<std::int32_t> out,
            std::int64_t vocab_size) const;

  // Tells this dataset from every other: a hash of both files. Throws Error, naming the file, where
  // PREFIX.json records another hash: it was altered since. Reads everything once, at the speed of
  // the disk or, from the page cache, at about 7 GB/s: let one rank do it for all; those that wait
  // hear that it works. Of a .bin beyond 16 GiB only 16 MiB, spread evenly, are hashed, and its
  // recorded hash is not looked at: a start takes seconds whatever the size.
  std::string fingerprint() const;

 private:
  void check_header();
  void check_layout();
  std::int64_t document_pointer(std::int64_t document) const;

  std::string prefix_;
  MappedFile index_;
  MappedFile tokens_;
  std::optional<DatasetDescription> description_;
  TokenType type_ = TokenType::kI32;
  std::int64_t document_count_ = 0;
  std::int64_t boundary_count_ = 0;
  std::int64_t token_count_ = 0;
};

}  // namespace polyhead
