#include "data/tokenize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/indexed_dataset.h"
#include "data/text_sizes.h"
#include "framework/files/content_hash.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace testing;

std::vector<std::string> documents_of(const std::vector<std::filesystem::path>& inputs,
                                      const DocumentFormat& format = {}) {
  std::vector<std::string> documents;
  read_documents(inputs, format, [&](std::string_view text) { documents.emplace_back(text); });
  return documents;
}

TEST(ReadDocuments, TakesAFileForADocument) {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder / "texts");
  write_file(folder / "texts" / "b.txt", "second\n");
  write_file(folder / "texts" / "a.txt", "first");
  write_file(folder / "texts" / "empty.txt", "");
  write_file(folder / "last.txt", "last");
  EXPECT_THAT(documents_of({folder / "texts", folder / "last.txt"}),
              ElementsAre("first", "second\n", "last"));
}

TEST(ReadDocuments, SplitsAtASeparatorLine) {
  TemporaryFolder folder;
  write_file(folder / "a.txt", "---\none\n---x\n---\r\n---\ntwo");
  EXPECT_THAT(documents_of({folder / "a.txt"}, {.json_key = {}, .separator = "---"}),
              ElementsAre("one\n---x\n", "two"));
}

TEST(ReadDocuments, ReadsJsonLines) {
  TemporaryFolder folder;
  write_file(folder / "a.jsonl",
             "{\"text\": \"one\\n\\u00a3\", \"id\": 1}\r\n\n{\"text\": \"\"}\n{\"text\": \"two\"}");
  EXPECT_THAT(documents_of({folder / "a.jsonl"}), ElementsAre("one\n\u00a3", "two"));
  write_file(folder / "b.txt", "{\"body\": \"one\"}\n");
  EXPECT_THAT(documents_of({folder / "b.txt"}, {.json_key = "body", .separator = {}}),
              ElementsAre("one"));
}

TEST(ReadDocuments, NamesFileAndLineOfBadInput) {
  TemporaryFolder folder;
  const auto error_for = [&](const std::string& name, const std::string& content) {
    write_file(folder / name, content);
    return error_of([&] { documents_of({folder / name}); });
  };
  EXPECT_THAT(error_for("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \n"), HasSubstr("a.jsonl:2: "));
  EXPECT_THAT(error_for("a.jsonl", "{\"body\": \"one\"}\n"), HasSubstr("a.jsonl:1: not an object"));
  EXPECT_THAT(error_for("a.jsonl", "{\"text\": 3}\n"), HasSubstr("--json-key"));
  EXPECT_THAT(error_for("a.jsonl", "[1]\n"), HasSubstr("a.jsonl:1: not an object"));
  EXPECT_THAT(error_for("a.jsonl", "\n{\"text\": \"\xff\"}\n"), HasSubstr("a.jsonl:2: "));
  EXPECT_THAT(error_for("a.txt", "fine\nbad \xff\n"), HasSubstr("a.txt:2: byte 9"));
  EXPECT_THAT(error_of([&] { documents_of({folder / "none.txt"}); }), HasSubstr("cannot open"));
}

TEST(Tokenize, WritesTokensAndCountsText) {
  TemporaryFolder folder;
  write_file(folder / "a.txt", "ab c\n");
  write_file(folder / "b.txt", "\u00a3");
  TokenizeOptions options{{folder / "a.txt", folder / "b.txt"}, {}, (folder / "out").string()};
  const DatasetDescription description = tokenize(options, Tokenizer("bytes"));
  const IndexedDataset dataset(options.output);
  ASSERT_TRUE(dataset.description());
  EXPECT_EQ(to_json(*dataset.description()), to_json(description));
  EXPECT_EQ(description.documents, 2);
  EXPECT_EQ(description.tokens, 5 + 1 + 2 + 1);
  EXPECT_EQ(description.bytes, 7);
  EXPECT_EQ(description.words, 3 + 1);
  EXPECT_EQ(description.vocab_size, 257);
  std::vector<std::int32_t> tokens(6);
  dataset.read(0, 0, tokens, 257);
  EXPECT_THAT(tokens, ElementsAre('a', 'b', ' ', 'c', '\n', 256));

  options.append_eod = false;
  EXPECT_EQ(tokenize(options, Tokenizer("bytes")).tokens, 7);
}

// The measures of a text must not depend on how it was tidied up before it was tokenized.
TEST(Tokenize, DetokenizesAfterItHasCounted) {
  TemporaryFolder folder;
  const std::string page = " = Wren = \n \n It is 9 @.@ 5 cm ( long ) . \n";
  write_file(folder / "a.txt", page);
  write_file(folder / "b.txt", "plain");
  TokenizeOptions options{{folder / "a.txt", folder / "b.txt"}, {}, (folder / "out").string()};
  const DatasetDescription plain = tokenize(options, Tokenizer("bytes"));
  EXPECT_EQ(plain.detokenizer, "");
  options.detokenizer = Detokenizer::kWikitext;
  const DatasetDescription tidy = tokenize(options, Tokenizer("bytes"));
  EXPECT_EQ(tidy.detokenizer, "wikitext");
  EXPECT_EQ(tidy.text_xxh3, plain.text_xxh3);
  EXPECT_EQ(tidy.bytes, static_cast<std::int64_t>(page.size()) + 5);
  EXPECT_EQ(tidy.words, 15 + 1);                  // two are empty, at the ends
  EXPECT_EQ(tidy.space_separated_words, 15 + 1);  // two are the ends of lines

  const IndexedDataset dataset(options.output);
  const std::string text = "= Wren =\n\nIt is 9.5 cm (long).\n";
  std::vector<std::int32_t> tokens(text.size() + 2);
  ASSERT_EQ(dataset.document_length(0), static_cast<std::int64_t>(tokens.size()));
  dataset.read(0, 0, tokens, 257);
  EXPECT_EQ(Tokenizer("bytes").decode(tokens), " " + text);
}

TEST(Tokenize, RecordsTheSizesOfDocuments) {
  TemporaryFolder folder;
  write_file(folder / "a.txt", "ab c\n");
  write_file(folder / "b.txt", "\u00a3");
  TokenizeOptions options{{folder / "a.txt", folder / "b.txt"}, {}, (folder / "out").string()};
  const DatasetDescription description = tokenize(options, Tokenizer("bytes"));
  const auto sizes = read_text_sizes(IndexedDataset(options.output));
  ASSERT_TRUE(sizes);
  ASSERT_EQ(sizes->size(), 2u);
  EXPECT_EQ(sizes->at(0).bytes, 5);
  EXPECT_EQ(sizes->at(0).words, 3);
  EXPECT_EQ(sizes->at(1).bytes, 2);
  EXPECT_EQ(sizes->at(1).words, 1);

  // The same text in other documents is another text: results could not be paired.
  write_file(folder / "a.txt", "ab c\n\u00a3");
  options.inputs.pop_back();
  const std::string joined = (folder / "joined").string();
  EXPECT_NE(tokenize({options.inputs, {}, joined}, Tokenizer("bytes")).text_xxh3,
            description.text_xxh3);

  write_file(folder / "out.sizes", std::string(32, '\1'));
  EXPECT_THAT(error_of([&] { read_text_sizes(IndexedDataset(options.output)); }),
              HasSubstr("out.sizes: is not the file that was written with"));
  // Even with a hash to match.
  std::string json = read_file(folder / "out.json");
  const std::string recorded = description.sizes_xxh3, forged(32, '\xff');
  json.replace(json.find(recorded), recorded.size(),
               content_hash(std::as_bytes(std::span(forged))));
  write_file(folder / "out.json", json);
  write_file(folder / "out.sizes", forged);
  EXPECT_THAT(error_of([&] { read_text_sizes(IndexedDataset(options.output)); }),
              HasSubstr("out.sizes: document 0 has -1 bytes"));
  std::filesystem::remove(folder / "out.sizes");
  EXPECT_FALSE(read_text_sizes(IndexedDataset(options.output)));
}

TEST(Tokenize, ReadsDescriptionsOfOlderDatasets) {
  TemporaryFolder folder;
  write_file(folder / "a.txt", "ab c\n");
  const TokenizeOptions options{{folder / "a.txt"}, {}, (folder / "out").string()};
  tokenize(options, Tokenizer("bytes"));
  std::string json = read_file(folder / "out.json");
  for (const char* key : {"space_separated_words", "detokenizer", "text_xxh3", "sizes_xxh3"}) {
    const std::size_t begin = json.find('"' + std::string(key));
    json.erase(begin, json.find('\n', begin) + 1 - begin);
  }
  json.erase(json.rfind(','), 1);
  write_file(folder / "out.json", json);
  const IndexedDataset dataset(options.output);
  EXPECT_EQ(dataset.description()->bytes, 5);
  EXPECT_EQ(dataset.description()->space_separated_words, 0);
  EXPECT_FALSE(read_text_sizes(dataset));
}

TEST(ByteTokenizer, TurnsEveryByteIntoAToken) {
  const Tokenizer tokenizer("bytes");
  const std::string text = " \u00a35,\r\n\tna\u00efve \u4e2d\u6587 \U0001F600 \xff\n";
  EXPECT_EQ(tokenizer.vocab_size(), 257);
  EXPECT_EQ(tokenizer.eod_id(), 256);
  EXPECT_THAT(tokenizer.encode("a\u00a3"), ElementsAre('a', 0xc2, 0xa3));
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_EQ(tokenizer.decode(std::vector<std::int32_t>{'a', 256, 'b'}), "ab");
  EXPECT_TRUE(tokenizer.encode("").empty());
  EXPECT_THAT(error_of([&] { tokenizer.decode(std::vector<std::int32_t>{257}); }),
              HasSubstr("token 257 lies outside the bytes tokenizer's vocabulary of 257"));
}

}  // namespace
}  // namespace polyhead
