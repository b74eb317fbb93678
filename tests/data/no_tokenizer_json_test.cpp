#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/tokenizer.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::HasSubstr;

TEST(NoTokenizerJson, NamesTheFlag) {
  const std::string error = testing::error_of([] { Tokenizer("llama/tokenizer.json"); });
  EXPECT_THAT(error, HasSubstr("llama/tokenizer.json: this binary was built without"));
  EXPECT_THAT(error, HasSubstr("-DPOLYHEAD_WITH_TOKENIZER_JSON=ON"));
}

}  // namespace
}  // namespace polyhead
