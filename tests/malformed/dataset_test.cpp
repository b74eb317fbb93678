#include <cstring>
#include <nlohmann/json.hpp>

#include "data/indexed_dataset.h"
#include "tests/data/dataset_files.h"
#include "tests/malformed/malformed_file.h"

namespace polyhead {
namespace {

using namespace testing;
using nlohmann::json;
using ::testing::ValuesIn;

// The three files of a dataset: sequences of 3, 2 and 4 tokens of two bytes each.
struct DatasetFiles {
  TemporaryFolder folder;
  std::string prefix = write_dataset(folder / "text", {{1, 2, 3}, {4, 5}, {6, 7, 8, 9}}, 257);

  std::string content(const std::string& ending) const { return read_file(prefix + ending); }
};

// Where the parts of the index begin, in bytes (data/indexed_dataset.h).
constexpr std::size_t kVersion = 9, kType = 17, kSequences = 18, kBoundaries = 26, kLengths = 34,
                      kPointers = 46, kDocuments = 70;

std::string index_with(std::size_t offset, auto value) {
  std::string content = DatasetFiles().content(".idx");
  std::memcpy(content.data() + offset, &value, sizeof(value));
  return content;
}

std::vector<MalformedFile> headers() {
  const std::string valid = DatasetFiles().content(".idx");
  using U64 = std::uint64_t;
  return {
      {"Empty", "", "does not begin with MMIDIDX"},
      {"MagicAlone", valid.substr(0, 9), "does not begin with MMIDIDX"},
      {"HeaderOneByteShort", valid.substr(0, 33), "does not begin with MMIDIDX"},
      {"AnotherMagic", index_with(0, 'X'), "does not begin with MMIDIDX"},
      {"MagicWithoutItsZeros", index_with(7, ' '), "does not begin with MMIDIDX"},
      {"VersionZero", index_with(kVersion, U64{0}), "version 0 of the index format, only 1"},
      {"VersionTwo", index_with(kVersion, U64{2}), "version 2 of the index format, only 1"},
      {"VersionBigEndian", index_with(kVersion, U64{1} << 56), "version 72057594037927936"},
      {"TypeZero", index_with(kType, std::uint8_t{0}), "token type code 0"},
      {"TypeF64", index_with(kType, std::uint8_t{6}),
       "token type code 6 is not that of an integer"},
      {"TypeF32", index_with(kType, std::uint8_t{7}),
       "token type code 7 is not that of an integer"},
      {"TypeUnknown", index_with(kType, std::uint8_t{9}), "token type code 9"},
      {"TypeOfAllOnes", index_with(kType, std::uint8_t{255}), "token type code 255"},
      {"TypeOfOneByte", index_with(kType, std::uint8_t{1}), "begins at byte 6 instead of 3"},
      {"TypeOfEightBytes", index_with(kType, std::uint8_t{5}), "sequence 0 ends at token 3"},
      {"NoSequences", index_with(kSequences, U64{0}), "has 102 bytes, but 0 sequences"},
      {"OneSequenceLess", index_with(kSequences, U64{2}), "has 102 bytes, but 2 sequences"},
      {"OneSequenceMore", index_with(kSequences, U64{4}), "has 102 bytes, but 4 sequences"},
      {"SequencesWrapAround", index_with(kSequences, U64{1} << 63), "do not fit into 102 bytes"},
      {"SequencesOfAllOnes", index_with(kSequences, ~U64{0}), "do not fit into 102 bytes"},
      {"SequencesTimesTwelveIsZero", index_with(kSequences, U64{1} << 62), "do not fit into"},
      {"NoBoundaries", index_with(kBoundaries, U64{0}), "and 0 document boundaries take"},
      {"OneBoundaryMore", index_with(kBoundaries, U64{5}), "and 5 document boundaries take"},
      {"BoundariesTimesEightIsZero", index_with(kBoundaries, U64{1} << 61), "do not fit into"},
      {"BoundariesOfAllOnes", index_with(kBoundaries, ~U64{0}), "do not fit into 102 bytes"},
      {"OneByteMissing", valid.substr(0, 101), "has 101 bytes, but 3 sequences"},
      {"ArraysMissing", valid.substr(0, 34), "do not fit into 34 bytes"},
      {"OneByteTooMany", valid + "x", "has 103 bytes, but 3 sequences"},
      {"SeveralModes", valid + "xyz", "holds several modes of data; only text is supported"},
      {"BoundariesCutOff", index_with(kBoundaries, U64{0}).substr(0, kDocuments),
       "has no document boundaries"},
      {"EmptyDataset", valid.substr(0, kSequences) + std::string(16, '\0'),
       "text.bin: has 18 bytes, but its index describes 0"},
  };
}

std::vector<MalformedFile> arrays() {
  using I32 = std::int32_t;
  using I64 = std::int64_t;
  return {
      {"LengthNegative", index_with(kLengths, I32{-1}), "sequence 0 has -1 tokens"},
      {"LengthMostNegative", index_with(kLengths + 4, INT32_MIN), "has -2147483648 tokens"},
      {"FirstLengthTooLong", index_with(kLengths, I32{1000}), "beyond the end of"},
      {"FirstLengthShorter", index_with(kLengths, I32{2}),
       "sequence 1 begins at byte 6 instead of 4"},
      {"LastLengthOneLonger", index_with(kLengths + 8, I32{5}), "beyond the end of"},
      {"LastLengthOneShorter", index_with(kLengths + 8, I32{3}), "but its index describes 16"},
      {"LengthLargest", index_with(kLengths + 8, INT32_MAX), "sequence 2 ends at token 2147483647"},
      {"FirstPointerNotZero", index_with(kPointers, I64{2}), "begins at byte 2 instead of 0"},
      {"PointerNegative", index_with(kPointers + 8, I64{-6}), "begins at byte -6 instead of 6"},
      {"PointerUnaligned", index_with(kPointers + 8, I64{7}), "begins at byte 7 instead of 6"},
      {"PointersCountTokens", index_with(kPointers + 8, I64{3}), "begins at byte 3 instead of 6"},
      {"PointerTruncatedTo32Bits", index_with(kPointers + 16, I64{10} << 32), "instead of 10"},
      {"PointerLargest", index_with(kPointers + 16, INT64_MAX),
       "begins at byte 9223372036854775807"},
      {"FirstDocumentNotZero", index_with(kDocuments, I64{1}), "document boundary 0 is 1"},
      {"DocumentNegative", index_with(kDocuments, I64{-1}), "document boundary 0 is -1"},
      {"DocumentsDecrease", index_with(kDocuments + 8, I64{3}), "document boundary 2 is 2 after 3"},
      {"LastDocumentTooSmall", index_with(kDocuments + 24, I64{2}), "ends at sequence 2 of 3"},
      {"LastDocumentTooLarge", index_with(kDocuments + 24, I64{4}), "ends at sequence 4 of 3"},
      {"LastDocumentLargest", index_with(kDocuments + 24, INT64_MAX),
       "ends at sequence 9223372036"},
  };
}

std::vector<MalformedFile> bins() {
  const std::string valid = DatasetFiles().content(".bin");
  return {
      {"Empty", "", "beyond the end of"},
      {"OneByteMissing", valid.substr(0, 17), "beyond the end of"},
      {"OneByteTooMany", valid + "x", "has 19 bytes, but its index describes 18"},
      {"OneTokenTooMany", valid + "xy", "has 20 bytes, but its index describes 18"},
      {"Twice", valid + valid, "has 36 bytes, but its index describes 18"},
  };
}

std::vector<MalformedFile> descriptions() {
  const std::string valid = DatasetFiles().content(".json");
  const auto set = [&](const std::string& key, const json& value) {
    json description = json::parse(valid);
    description[key] = value;
    return description.dump();
  };
  std::vector<MalformedFile> cases = {
      {"Empty", "", "not valid JSON"},
      {"CutOff", valid.substr(0, valid.size() / 2), "not valid JSON"},
      {"ZeroByteBehindTheObject", valid + std::string("\0", 1), "is zero"},
      {"InvalidUtf8",
       replaced(valid, "\"numbers\",\n  \"tokenizer_file\"", "\"\xC0\xAF\",\n  \"tokenizer_file\""),
       "not valid JSON"},
      {"ManyArrays", repeated("[", 100'000), "nests deeper than 16 levels"},
      {"TooLarge", valid + std::string(1 << 20, ' '), "at most 1048576 are read"},
      {"KeyTwice", replaced(valid, "\"bytes\"", "\"words\""), "the key 'words' appears twice"},
      {"Array", "[]", "expected an object; tokenize the text again"},
      {"Null", "null", "expected an object; tokenize the text again"},
      {"EodBeyondTheVocabulary", set("eod_id", 257),
       "eod_id 257 lies outside the vocabulary of 257"},
      {"EodBeyond32Bits", set("eod_id", std::int64_t{1} << 32), "integer of at most 2147483647"},
      {"VocabularyEmpty", set("vocab_size", 0), "lies outside the vocabulary of 0"},
      {"VocabularyBeyond63Bits", set("vocab_size", ~std::uint64_t{0}),
       "at most 9223372036854775807"},
      {"OtherDocuments", set("documents", 4), "describes 4 documents and 9 tokens but"},
      {"OtherTokens", set("tokens", 10), "describes 3 documents and 10 tokens but"},
  };
  const auto add_key = [&](const std::string& key, const json& wrong, const std::string& rule) {
    json missing = json::parse(valid);
    missing.erase(key);
    cases.push_back(
        {key + "Missing", missing.dump(), key + " is missing; tokenize the text again"});
    cases.push_back({key + "OfAnotherType", set(key, wrong), key + " must be " + rule});
  };
  for (const char* key :
       {"tokenizer", "tokenizer_file", "tokenizer_fingerprint", "bin_xxh3", "idx_xxh3"}) {
    add_key(key, nullptr, "a string");
  }
  add_key("append_eod", 1, "true or false");
  add_key("vocab_size", true, "a non-negative integer");
  add_key("eod_id", -1, "a non-negative integer");
  add_key("documents", 3.0, "a non-negative integer");
  add_key("tokens", "9", "a non-negative integer");
  add_key("bytes", -1, "a non-negative integer");
  add_key("words", 1e300, "a non-negative integer");
  return cases;
}

// Opens the valid dataset with one of its files replaced.
void expect_dataset_refused(const std::string& ending, const MalformedFile& file) {
  const DatasetFiles dataset;
  write_file(dataset.prefix + ending, file.content);
  expect_refused(dataset.prefix, file, [&] { IndexedDataset{dataset.prefix}; });
}

class MalformedIdx : public ::testing::TestWithParam<MalformedFile> {};
TEST_P(MalformedIdx, IsRefused) {
  expect_dataset_refused(".idx", GetParam());
}
INSTANTIATE_TEST_SUITE_P(Header, MalformedIdx, ValuesIn(headers()), mutation);
INSTANTIATE_TEST_SUITE_P(Arrays, MalformedIdx, ValuesIn(arrays()), mutation);

class MalformedBin : public ::testing::TestWithParam<MalformedFile> {};
TEST_P(MalformedBin, IsRefused) {
  expect_dataset_refused(".bin", GetParam());
}
INSTANTIATE_TEST_SUITE_P(Size, MalformedBin, ValuesIn(bins()), mutation);

class MalformedDescription : public ::testing::TestWithParam<MalformedFile> {};
TEST_P(MalformedDescription, IsRefused) {
  expect_dataset_refused(".json", GetParam());
}
INSTANTIATE_TEST_SUITE_P(Keys, MalformedDescription, ValuesIn(descriptions()), mutation);

TEST(ValidDataset, IsRead) {
  EXPECT_EQ(IndexedDataset(DatasetFiles().prefix).token_count(), 9);
}

}  // namespace
}  // namespace polyhead
