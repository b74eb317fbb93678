#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/tokenizer.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::HasSubstr;

TEST(NoSentencePiece, NamesTheFlag) {
  EXPECT_THAT(testing::error_of([] { Tokenizer("prose.model"); }),
              HasSubstr("prose.model: this binary was built without sentencepiece"));
  EXPECT_THAT(testing::error_of([] { train_sentencepiece({"text"}, 300, "prose.model"); }),
              HasSubstr("-DPOLYHEAD_WITH_SENTENCEPIECE=ON"));
  EXPECT_EQ(Tokenizer("bytes").vocab_size(), 257);
}

}  // namespace
}  // namespace polyhead
