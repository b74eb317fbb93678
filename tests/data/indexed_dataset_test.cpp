#include "data/indexed_dataset.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tests/data/dataset_files.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace testing;

const Documents kExample = {{1, 2, 3}, {4, 5}, {6, 7, 8, 9}};

std::vector<std::int32_t> read_all(const IndexedDataset& dataset, std::int64_t document) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(dataset.document_length(document)));
  dataset.read(document, 0, tokens, 1 << 30);
  return tokens;
}

template <class Value>
void overwrite(const std::filesystem::path& path, std::size_t offset, Value value) {
  std::string content = read_file(path);
  std::memcpy(content.data() + offset, &value, sizeof(value));
  write_file(path, content);
}

TEST(IndexedDataset, WritesMegatronsBytes) {
  TemporaryFolder folder;
  const std::string prefix = write_dataset(folder / "example", kExample, 257);
  const unsigned char expected[] = {
      0x4d, 0x4d, 0x49, 0x44, 0x49, 0x44, 0x58, 0, 0,                       // magic
      1,    0,    0,    0,    0,    0,    0,    0,                          // version
      8,                                                                    // u16
      3,    0,    0,    0,    0,    0,    0,    0, 4, 0, 0, 0, 0, 0, 0, 0,  // N, D
      3,    0,    0,    0,    2,    0,    0,    0, 4, 0, 0, 0,              // lengths
      0,    0,    0,    0,    0,    0,    0,    0, 6, 0, 0, 0, 0, 0, 0, 0,
      10,   0,    0,    0,    0,    0,    0,    0,  // pointers
      0,    0,    0,    0,    0,    0,    0,    0, 1, 0, 0, 0, 0, 0, 0, 0,
      2,    0,    0,    0,    0,    0,    0,    0, 3, 0,  // documents
      0,    0,    0,    0,    0,    0};
  EXPECT_EQ(sizeof(expected), 102u);
  EXPECT_EQ(read_file(prefix + ".idx"),
            std::string(reinterpret_cast<const char*>(expected), sizeof(expected)));
  const char16_t tokens[] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
  EXPECT_EQ(read_file(prefix + ".bin"),
            std::string(reinterpret_cast<const char*>(tokens), sizeof(tokens)));
}

TEST(IndexedDataset, ReadsWhatWasWritten) {
  TemporaryFolder folder;
  for (const std::int64_t vocab_size : {65499, 65500}) {
    const Documents documents = {{}, {1, 2, 3}, {}, {65498}, {4, 5, 6, 7}, {}};
    const IndexedDataset dataset(write_dataset(folder / "dataset", documents, vocab_size));
    ASSERT_EQ(dataset.document_count(), 6);
    EXPECT_EQ(dataset.token_count(), 8);
    for (std::int64_t i = 0; i < 6; ++i) {
      EXPECT_EQ(read_all(dataset, i), documents[static_cast<std::size_t>(i)]);
    }
    EXPECT_EQ(read_file(folder / "dataset.bin").size(), vocab_size < 65500 ? 16u : 32u);
    std::vector<std::int32_t> middle(2);
    dataset.read(4, 1, middle, vocab_size);
    EXPECT_THAT(middle, ElementsAre(5, 6));
  }
}

TEST(IndexedDataset, LoadsWithoutDescription) {
  TemporaryFolder folder;
  const std::string prefix = write_dataset(folder / "example", kExample, 257);
  std::filesystem::remove(prefix + ".json");
  const IndexedDataset dataset(prefix);
  EXPECT_FALSE(dataset.description());
  EXPECT_THAT(read_all(dataset, 1), ElementsAre(4, 5));
}

TEST(IndexedDataset, ReadsEveryIntegerType) {
  TemporaryFolder folder;
  const std::string prefix = write_dataset(folder / "example", {{1, 2, 3, 4}}, 257);
  std::filesystem::remove(prefix + ".json");
  struct Case {
    std::uint8_t code;
    std::size_t bytes;
  };
  for (const Case& c : {Case{1, 1}, Case{2, 1}, Case{3, 2}, Case{4, 4}, Case{5, 8}, Case{8, 2}}) {
    std::string bin(4 * c.bytes, '\0');
    for (std::size_t i = 0; i < 4; ++i) bin[i * c.bytes] = static_cast<char>(i + 1);
    write_file(prefix + ".bin", bin);
    overwrite(prefix + ".idx", 17, c.code);
    EXPECT_THAT(read_all(IndexedDataset(prefix), 0), ElementsAre(1, 2, 3, 4)) << int{c.code};
  }
}

TEST(IndexedDataset, NamesATokenOutsideTheVocabulary) {
  TemporaryFolder folder;
  const std::string prefix = write_dataset(folder / "example", kExample, 257);
  const IndexedDataset dataset(prefix);
  std::vector<std::int32_t> tokens(2);
  EXPECT_NO_THROW(dataset.read(2, 2, tokens, 10));
  const std::string message = error_of([&] { dataset.read(2, 2, tokens, 9); });
  EXPECT_THAT(message, HasSubstr("example.bin: token 9 at offset 3 of document 2"));
  EXPECT_THAT(message, HasSubstr("vocabulary of 9"));

  const std::string wide = write_dataset(folder / "wide", {{1, 2}}, 70000);
  overwrite(wide + ".bin", 4, std::int32_t{-5});
  EXPECT_THAT(error_of([&] { IndexedDataset(wide).read(0, 0, tokens, 70000); }),
              HasSubstr("token -5 at offset 1 of document 0"));
}

TEST(IndexedDataset, RefusesDamagedFiles) {
  TemporaryFolder folder;
  const std::string prefix = write_dataset(folder / "example", kExample, 257);
  const std::string index = read_file(prefix + ".idx"), bin = read_file(prefix + ".bin");
  const auto expect_refused = [&](const std::string& reason) {
    EXPECT_THAT(error_of([&] { IndexedDataset{prefix}; }), HasSubstr(reason));
    write_file(prefix + ".idx", index);
    write_file(prefix + ".bin", bin);
  };
  const auto expect_altered_index_refused = [&](std::size_t offset, auto value,
                                                const std::string& reason) {
    overwrite(prefix + ".idx", offset, value);
    expect_refused(reason);
  };
  expect_altered_index_refused(0, 'X', "does not begin with MMIDIDX");
  expect_altered_index_refused(9, std::uint64_t{2}, "version 2 of the index format, only 1");
  expect_altered_index_refused(17, std::uint8_t{6}, "token type code 6");
  expect_altered_index_refused(17, std::uint8_t{9}, "token type code 9");
  expect_altered_index_refused(17, std::uint8_t{4}, "begins at byte 6 instead of 12");
  expect_altered_index_refused(18, std::uint64_t{1} << 63, "do not fit into 102 bytes");
  expect_altered_index_refused(26, std::uint64_t{1} << 61, "do not fit into 102 bytes");
  expect_altered_index_refused(18, std::uint64_t{2}, "has 102 bytes, but 2 sequences");
  expect_altered_index_refused(34, std::int32_t{-1}, "sequence 0 has -1 tokens");
  expect_altered_index_refused(34, std::int32_t{1000}, "beyond the end");
  expect_altered_index_refused(42, std::int32_t{0x7FFFFFFF}, "beyond the end");
  expect_altered_index_refused(54, std::int64_t{-6}, "begins at byte -6 instead of 6");
  expect_altered_index_refused(70, std::int64_t{1}, "document boundary 0 is 1");
  expect_altered_index_refused(78, std::int64_t{3}, "document boundary 2 is 2 after 3");
  expect_altered_index_refused(94, std::int64_t{4}, "ends at sequence 4 of 3");

  for (std::size_t size = 0; size < index.size(); ++size) {
    write_file(prefix + ".idx", index.substr(0, size));
    expect_refused("example.idx");
  }
  write_file(prefix + ".idx", index + "x");
  expect_refused("has 103 bytes");
  write_file(prefix + ".idx", index + "xyz");
  expect_refused("several modes");
  for (std::size_t size = 0; size < bin.size(); ++size) {
    write_file(prefix + ".bin", bin.substr(0, size));
    expect_refused("example.bin");
  }
  write_file(prefix + ".bin", bin + "x");
  expect_refused("has 19 bytes, but its index describes 18");
  std::filesystem::remove(prefix + ".bin");
  expect_refused("example.bin: no such file; make the dataset with 'polyhead tokenize");
  EXPECT_NO_THROW(IndexedDataset{prefix});
}

TEST(IndexedDataset, RefusesAForeignDescription) {
  TemporaryFolder folder;
  const std::string prefix = write_dataset(folder / "example", kExample, 257);
  const std::string other = write_dataset(folder / "other", {{1, 2}}, 257);
  const auto expect_refused = [&](const std::string& reason) {
    EXPECT_THAT(error_of([&] { IndexedDataset{prefix}; }), HasSubstr(reason));
  };
  write_file(prefix + ".json", read_file(other + ".json"));
  expect_refused("describes 1 documents and 2 tokens");
  write_file(prefix + ".json", "{");
  expect_refused("not valid JSON");
  write_file(prefix + ".json", "[]");
  expect_refused("expected an object; tokenize the text again");
  write_file(prefix + ".json", "{\"tokenizer\": 3}");
  expect_refused("tokenizer must be a string; tokenize the text again");
  write_file(prefix + ".json", "{}");
  expect_refused("tokenizer is missing; tokenize the text again");
}

TEST(IndexedDataset, FingerprintFollowsTheContent) {
  TemporaryFolder folder;
  Documents documents = numbered_documents({900, 0, 700});
  documents.resize(40, std::vector<std::int32_t>(50000, 7));
  const std::string first =
      IndexedDataset(write_dataset(folder / "a", documents, 3000)).fingerprint();
  EXPECT_EQ(first.size(), 32u);
  EXPECT_EQ(IndexedDataset(write_dataset(folder / "b", documents, 3000)).fingerprint(), first);
  for (const std::size_t document : {0, 20, 39}) {
    Documents changed = documents;
    changed[document].back() ^= 1;
    EXPECT_NE(IndexedDataset(write_dataset(folder / "c", changed, 3000)).fingerprint(), first);
  }
  documents[39].pop_back();
  EXPECT_NE(IndexedDataset(write_dataset(folder / "c", documents, 3000)).fingerprint(), first);
}

// One byte far from both ends, in files whose sizes still agree.
TEST(IndexedDataset, FingerprintRefusesFilesAlteredInPlace) {
  TemporaryFolder folder;
  const Documents documents(33, std::vector<std::int32_t>(50001, 7));  // 3.3 MB
  const std::string prefix = write_dataset(folder / "a", documents, 3000);
  const std::string first = IndexedDataset(prefix).fingerprint();
  const auto error = [&] { return error_of([&] { IndexedDataset(prefix).fingerprint(); }); };

  overwrite(prefix + ".bin", 1234567, std::uint8_t{1});
  EXPECT_THAT(error(), HasSubstr("a.bin was altered since it was made"));
  EXPECT_THAT(error(), HasSubstr("tokenize the text again"));
  std::filesystem::remove(prefix + ".json");
  EXPECT_NE(IndexedDataset(prefix).fingerprint(), first);

  write_dataset(folder / "a", documents, 3000);
  overwrite(prefix + ".idx", 34, std::int32_t{50000});
  overwrite(prefix + ".idx", 38, std::int32_t{50002});
  overwrite(prefix + ".idx", 34 + 4 * 33 + 8, std::int64_t{100000});
  EXPECT_THAT(error(), HasSubstr("a.idx was altered since it was made"));
  std::filesystem::remove(prefix + ".json");
  EXPECT_NE(IndexedDataset(prefix).fingerprint(), first);
}

TEST(IndexedDatasetWriter, KeepsTheOldDatasetUntilItFinishes) {
  TemporaryFolder folder;
  const std::string prefix = write_dataset(folder / "sub" / "example", kExample, 257);
  {
    IndexedDatasetWriter writer(prefix, 257);
    writer.add_document(std::vector<std::int32_t>{1});
  }
  EXPECT_EQ(IndexedDataset(prefix).document_count(), 3);
  EXPECT_FALSE(std::filesystem::exists(prefix + ".bin.partial"));
  EXPECT_THAT(error_of([&] { IndexedDatasetWriter(prefix, 257).finish({}); }),
              HasSubstr("no document with a token"));
}

}  // namespace
}  // namespace polyhead
