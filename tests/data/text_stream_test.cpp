#include "data/text_stream.h"

#include <gtest/gtest.h>

#include "data/text.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using Pieces = std::vector<std::string>;

// The pieces that bytes appear in.
Pieces streamed(const std::string& bytes) {
  const Tokenizer tokenizer("bytes");
  TextStream stream(tokenizer);
  Pieces pieces;
  for (const std::int32_t token : tokenizer.encode(bytes)) pieces.push_back(stream.add(token));
  pieces.push_back(stream.finish());
  return pieces;
}

TEST(TextStream, HoldsBackHalfCharacters) {
  EXPECT_EQ(streamed("a\u00e9"), (Pieces{"a", "", "\u00e9", ""}));
  EXPECT_EQ(streamed("\u20acb"), (Pieces{"", "", "\u20ac", "b", ""}));
  EXPECT_EQ(streamed("\U0001F600"), (Pieces{"", "", "", "\U0001F600", ""}));
}

TEST(TextStream, ReplacesWhatWillNeverBeACharacter) {
  EXPECT_EQ(streamed("\xff\x80"), (Pieces{"\uFFFD", "\uFFFD", ""}));
  EXPECT_EQ(streamed("\xe2\x82z"), (Pieces{"", "", "\uFFFDz", ""}));
  EXPECT_EQ(streamed("\xc3\xc3\xa9"), (Pieces{"", "\uFFFD", "\u00e9", ""}));
  EXPECT_EQ(streamed("\xe2\x82"), (Pieces{"", "", "\uFFFD"}));
}

TEST(TextStream, AddsUpToTheWholeText) {
  const std::string odd = "\xf0\x9f\x98\xff \u4e2d\xe4\xb8 \xed\xa0\x80\xf4\x90\x80\x80 end\xc3";
  std::string whole;
  for (const std::string& piece : streamed(odd)) whole += piece;
  EXPECT_EQ(whole, replace_invalid_utf8(odd));
}

TEST(TextStream, SpecialTokensAreNoText) {
  const Tokenizer tokenizer("bytes");
  TextStream stream(tokenizer);
  EXPECT_EQ(stream.add(tokenizer.eod_id()), "");
  EXPECT_EQ(testing::error_of([&] { stream.add(257); }),
            "token 257 lies outside the bytes tokenizer's vocabulary of 257");
}

}  // namespace
}  // namespace polyhead
