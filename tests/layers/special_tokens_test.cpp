#include "layers/huggingface/special_tokens.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TemporaryFolder;
using testing::write_file;

constexpr std::int64_t kVocabulary = 131;

SpecialTokens parse(const std::string& text) {
  return parse_special_tokens(text, "config.json", kVocabulary);
}

TEST(SpecialTokens, OneOrMany) {
  const SpecialTokens one = parse(R"({"bos_token_id": 0, "eos_token_id": 130, "pad_token_id": 7})");
  EXPECT_EQ(one.bos_token_id, 0);
  EXPECT_THAT(one.eos_token_id, ElementsAre(130));
  EXPECT_EQ(one.pad_token_id, 7);
  EXPECT_THAT(parse(R"({"eos_token_id": [9, 3, 5]})").eos_token_id, ElementsAre(9, 3, 5));
}

TEST(SpecialTokens, None) {
  for (const char* text :
       {"{}", R"({"bos_token_id": null, "eos_token_id": null, "pad_token_id": null})",
        R"({"eos_token_id": []})", R"({"pad_token_id": -1})"}) {
    const SpecialTokens none = parse(text);
    EXPECT_EQ(none.bos_token_id, std::nullopt) << text;
    EXPECT_THAT(none.eos_token_id, IsEmpty()) << text;
    EXPECT_EQ(none.pad_token_id, std::nullopt) << text;
  }
}

TEST(SpecialTokens, WhatIsNoTokenIsRefused) {
  EXPECT_EQ(error_of([] { parse(R"({"eos_token_id": 131})"); }),
            "config.json: eos_token_id: got 131; must be a token of the vocabulary, from 0 to 130, "
            "or a list of them; correct it, or delete it where there is none");
  for (const char* key : {"bos_token_id", "pad_token_id"}) {
    EXPECT_EQ(error_of([&] { parse(fmt::format(R"({{"{}": [1]}})", key)); }),
              fmt::format("config.json: {}: got [1]; must be a token of the vocabulary, from 0 to "
                          "130; correct it, or delete it where there is none",
                          key));
  }
}

class EndTokens : public ::testing::Test {
 protected:
  void write(const char* name, const std::string& text) const { write_file(folder_ / name, text); }
  std::vector<std::int64_t> read() const { return read_end_tokens(folder_.path(), kVocabulary); }
  std::filesystem::path path(const char* name) const { return folder_ / name; }

 private:
  TemporaryFolder folder_;
};

TEST_F(EndTokens, AreThoseOfGenerationBeforeThoseOfTheModel) {
  write("config.json", R"({"eos_token_id": [1, 2]})");
  EXPECT_THAT(read(), ElementsAre(1, 2));
  write("generation_config.json", R"({"eos_token_id": 3})");
  EXPECT_THAT(read(), ElementsAre(3));
  write("generation_config.json", R"({"eos_token_id": null, "temperature": 0.6})");
  EXPECT_THAT(read(), ElementsAre(1, 2));
  write("config.json", R"({"eos_token_id": null})");
  EXPECT_THAT(read(), IsEmpty());
}

TEST_F(EndTokens, NameTheFileThatIsWrong) {
  const auto refusal_in = [](const std::filesystem::path& file) {
    return HasSubstr(file.string() + ": eos_token_id: got \"</s>\"; must be a token");
  };
  write("config.json", R"({"eos_token_id": "</s>"})");
  EXPECT_THAT(error_of([&] { read(); }), refusal_in(path("config.json")));
  write("generation_config.json", R"({"eos_token_id": 3})");
  EXPECT_THAT(read(), ElementsAre(3)) << "the other file is not asked";
  write("generation_config.json", R"({"eos_token_id": "</s>"})");
  EXPECT_THAT(error_of([&] { read(); }), refusal_in(path("generation_config.json")));
}

TEST_F(EndTokens, DoNotDependOnOtherTokens) {
  write("config.json", R"({"eos_token_id": 4, "pad_token_id": -2})");
  EXPECT_THAT(read(), ElementsAre(4));
}

}  // namespace
}  // namespace polyhead
