#include "layers/huggingface/special_tokens.h"

#include "tests/malformed/malformed_file.h"

namespace polyhead {
namespace {

using namespace testing;
using ::testing::ValuesIn;

constexpr std::int64_t kVocabulary = 131;
const std::string kValid = R"({"bos_token_id": 1, "eos_token_id": [2, 130], "use_cache": true})";

std::vector<MalformedFile> texts() {
  return {
      {"Empty", "", "not valid JSON"},
      {"CutOff", kValid.substr(0, kValid.size() / 2), "not valid JSON"},
      {"TwoObjects", kValid + "{}", "not valid JSON"},
      {"Array", "[]", "must be a JSON object"},
      {"ZeroByte", kValid + std::string("\0", 1), "is zero"},
      {"ManyArrays", R"({"eos_token_id": )" + repeated("[", 100'000), "nests deeper than 8 levels"},
      {"TooLarge", kValid + std::string(1 << 20, ' '), "at most 1048576 are read"},
      {"KeyTwice", replaced(kValid, "bos_token_id", "eos_token_id"), "appears twice"},
  };
}

std::vector<MalformedFile> values() {
  std::vector<MalformedFile> cases;
  const auto add = [&](const char* name, const std::string& value, const std::string& shown) {
    cases.push_back({name, replaced(kValid, "[2, 130]", value),
                     "eos_token_id: got " + shown + "; must be a token of the vocabulary"});
  };
  add("OutsideTheVocabulary", "131", "131");
  add("InAListOutsideTheVocabulary", "[2, 131]", "[2,131]");
  add("Negative", "-1", "-1");
  add("Beyond63Bits", "9223372036854775808", "9223372036854775808");
  add("Beyond64Bits", "18446744073709551616", "1.8446744073709552e+19");
  add("Fraction", "2.0", "2.0");
  add("String", R"("2")", R"("2")");
  add("Control", "\"\\u001b[2J\"", R"("\u001b[2J")");
  add("Boolean", "true", "true");
  add("Object", R"({"id": 2})", R"({"id":2})");
  add("NullInAList", "[2, null]", "[2,null]");
  add("ListInAList", "[[2, 130]]", "[[2,130]]");
  return cases;
}

class MalformedSpecialTokens : public ::testing::TestWithParam<MalformedFile> {};

TEST_P(MalformedSpecialTokens, IsRefusedInGenerationConfig) {
  const TemporaryFolder folder;
  write_file(folder / "config.json", kValid);
  write_file(folder / "generation_config.json", GetParam().content);
  expect_refused(folder / "generation_config.json", GetParam(),
                 [&] { read_end_tokens(folder.path(), kVocabulary); });
}

TEST_P(MalformedSpecialTokens, IsRefusedInConfigJson) {
  const TemporaryFolder folder;
  write_file(folder / "config.json", GetParam().content);
  expect_refused(folder / "config.json", GetParam(),
                 [&] { read_special_tokens(folder.path(), kVocabulary); });
}

INSTANTIATE_TEST_SUITE_P(Text, MalformedSpecialTokens, ValuesIn(texts()), mutation);
INSTANTIATE_TEST_SUITE_P(Value, MalformedSpecialTokens, ValuesIn(values()), mutation);

TEST(ValidSpecialTokens, IsRead) {
  EXPECT_THAT(parse_special_tokens(kValid, "generation_config.json", kVocabulary).eos_token_id,
              ::testing::ElementsAre(2, 130));
}

}  // namespace
}  // namespace polyhead
