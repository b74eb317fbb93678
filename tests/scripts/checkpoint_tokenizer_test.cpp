#include "scripts/checkpoint_tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

class CheckpointTokenizer : public ::testing::Test {
 protected:
  // A sentencepiece model in the folder; others have other sizes.
  void add_model(const std::string& name, std::int64_t vocab_size) const {
    std::vector<std::string> lines;
    for (int i = 0; i < 200; ++i) {
      lines.push_back("the quick brown fox number " + std::to_string(i) + " jumps\n");
    }
    train_sentencepiece(std::move(lines), vocab_size, folder_ / name);
  }
  std::string fingerprint(const std::string& name) const {
    return Tokenizer((folder_ / name).string()).fingerprint();
  }
  Tokenizer open(const std::string& known_fingerprint) const {
    ModelSource source;
    source.folder = folder_.path();
    source.tokenizer_fingerprint = known_fingerprint;
    return open_checkpoint_tokenizer(source);
  }

  testing::TemporaryFolder folder_;
};

TEST_F(CheckpointTokenizer, BytesNeedNoFile) {
  EXPECT_EQ(open("bytes-257").kind(), "bytes");
}

TEST_F(CheckpointTokenizer, IsTheOneOfTraining) {
  add_model("austen.model", 350);
  add_model("tokenizer.model", 351);
  EXPECT_EQ(open(fingerprint("austen.model")).vocab_size(), 350);
  EXPECT_EQ(open(fingerprint("tokenizer.model")).vocab_size(), 351);
  EXPECT_THAT(error_of([&] { open("0123"); }),
              HasSubstr("tokenizer.model is not the tokenizer that the model was trained with "
                        "(fingerprint 0123)"));
}

TEST_F(CheckpointTokenizer, IsFoundByItsNameWhereTrainingIsUnknown) {
  EXPECT_THAT(error_of([&] { open(""); }), HasSubstr("the folder has no tokenizer"));
  add_model("austen.model", 350);
  EXPECT_EQ(open("").vocab_size(), 350);
  // The reader of tokenizer.json would refuse this one.
  testing::write_file(folder_ / "tokenizer.json", "{}");
  EXPECT_THAT(error_of([&] { open(""); }), HasSubstr("tokenizer.json"));
  add_model("tokenizer.model", 351);
  EXPECT_EQ(open("").vocab_size(), 351);
}

class EncodePrompt : public CheckpointTokenizer {
 protected:
  std::vector<std::int32_t> encode(const std::string& prompt, const Tokenizer& tokenizer,
                                   std::int64_t vocab_size) const {
    ModelSource source;
    source.folder = folder_.path();
    source.model.vocab_size = vocab_size;
    return encode_prompt(prompt, tokenizer, source);
  }
};

TEST_F(EncodePrompt, BeginsAsTheModelHasSeenDocumentsBegin) {
  add_model("tokenizer.model", 350);
  const Tokenizer tokenizer((folder_ / "tokenizer.model").string());
  const std::vector<std::int32_t> text = tokenizer.encode("the fox");
  std::vector<std::int32_t> marked = {tokenizer.bos_id().value()};
  EXPECT_EQ(encode("", tokenizer, 350), marked);
  marked.insert(marked.end(), text.begin(), text.end());
  EXPECT_EQ(encode("the fox", tokenizer, 350), marked);
  testing::write_file(folder_ / "trainer.json", "");
  EXPECT_EQ(encode("the fox", tokenizer, 350), text);
  EXPECT_EQ(encode("", tokenizer, 350), std::vector<std::int32_t>{tokenizer.eod_id()});
}

TEST_F(EncodePrompt, RefusesTokensThatTheModelLacks) {
  EXPECT_THAT(error_of([&] { encode("abc", Tokenizer("bytes"), 'c'); }),
              HasSubstr("the prompt has token 99 of the tokenizer, which lies outside the "
                        "vocabulary of 99"));
  EXPECT_THAT(error_of([&] { encode("", Tokenizer("bytes"), 256); }), HasSubstr("token 256"));
}

}  // namespace
}  // namespace polyhead
