#include "data/sentencepiece_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/indexed_dataset.h"
#include "data/tokenize.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::HasSubstr;
using namespace testing;

const std::string kOddText =
    " leading, double  space\ttab\r\n\n\u00a35, na\u00efve \u4e2d\u6587 \U0001F600  "
    "\xe2\x80\x8b end \n";

std::vector<std::string> prose() {
  std::vector<std::string> lines;
  for (int i = 0; i < 200; ++i) {
    lines.push_back("the quick brown fox number " + std::to_string(i) + " jumps over the dog\n");
  }
  return lines;
}

TEST(SentencePieceTokenizer, RoundTripsAllText) {
  TemporaryFolder folder;
  train_sentencepiece(prose(), 400, folder / "prose.model");
  const Tokenizer tokenizer((folder / "prose.model").string());
  EXPECT_EQ(tokenizer.kind(), "sentencepiece");
  EXPECT_EQ(tokenizer.vocab_size(), 400);
  EXPECT_EQ(tokenizer.bos_id(), 1);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(kOddText)), kOddText);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode("a\u2581b")), "a b");  // the documented exception
  std::string bytes;
  for (const std::int32_t token : tokenizer.encode(kOddText)) bytes += tokenizer.token_bytes(token);
  EXPECT_EQ(bytes, kOddText);
  EXPECT_EQ(tokenizer.token_bytes(tokenizer.eod_id()), "");
  EXPECT_EQ(tokenizer.token_bytes(0), tokenizer.decode(std::vector<std::int32_t>{0}));  // unknown
  const std::vector<std::int32_t> tokens = tokenizer.encode("the quick brown fox");
  EXPECT_LT(tokens.size(), 8u);
  EXPECT_THAT(tokens, ::testing::Not(::testing::Contains(tokenizer.eod_id())));
  std::vector<std::int32_t> ended = tokens;
  ended.push_back(tokenizer.eod_id());
  EXPECT_EQ(tokenizer.decode(ended), "the quick brown fox");
  EXPECT_THAT(error_of([&] { tokenizer.decode(std::vector<std::int32_t>{-1}); }),
              HasSubstr("token -1"));
}

TEST(SentencePieceTokenizer, TrainsTheSameModelTwice) {
  TemporaryFolder folder;
  train_sentencepiece(prose(), 400, folder / "one.model");
  train_sentencepiece(prose(), 400, folder / "two.model");
  train_sentencepiece(prose(), 399, folder / "other.model");
  const auto fingerprint = [&](const char* name) {
    return Tokenizer((folder / name).string()).fingerprint();
  };
  EXPECT_EQ(fingerprint("one.model"), fingerprint("two.model"));
  EXPECT_NE(fingerprint("one.model"), fingerprint("other.model"));
}

TEST(SentencePieceTokenizer, RefusesWhatIsNoModel) {
  TemporaryFolder folder;
  EXPECT_THAT(error_of([&] { Tokenizer((folder / "none.model").string()); }),
              HasSubstr("cannot open"));
  for (const std::string content : {"", "not a model", "\x0a\xff\xff\xff\xff\x7f"}) {
    write_file(folder / "bad.model", content);
    EXPECT_THAT(error_of([&] { Tokenizer((folder / "bad.model").string()); }),
                HasSubstr("bad.model is not a sentencepiece model"));
  }
  for (const std::int64_t vocab_size : {100, 100000}) {
    EXPECT_THAT(error_of([&] { train_sentencepiece(prose(), vocab_size, folder / "x.model"); }),
                HasSubstr("cannot train a sentencepiece model of"));
  }
}

TEST(SentencePieceTokenizer, TrainsAModelAndNamesItBesideTheData) {
  TemporaryFolder folder;
  std::string text;
  for (int i = 0; i < 200; ++i) text += "it is a truth universally acknowledged\n";
  write_file(folder / "a.txt", text);
  const TokenizeOptions options{{folder / "a.txt"}, {}, (folder / "data" / "out").string()};
  train_tokenizer(options, 300, folder / "models" / "austen.model");
  const Tokenizer tokenizer((folder / "models" / "austen.model").string());
  const DatasetDescription description = tokenize(options, tokenizer);
  EXPECT_EQ(description.tokenizer_file, "../models/austen.model");
  EXPECT_EQ(description.tokenizer_fingerprint, tokenizer.fingerprint());
  EXPECT_EQ(description.bytes, static_cast<std::int64_t>(text.size()));

  const IndexedDataset dataset(options.output);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(dataset.token_count()));
  dataset.read(0, 0, tokens, 300);
  EXPECT_EQ(tokens.back(), tokenizer.eod_id());
  EXPECT_EQ(tokenizer.decode(tokens), text);
}

}  // namespace
}  // namespace polyhead
