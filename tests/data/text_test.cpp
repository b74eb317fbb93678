#include "data/text.h"

#include <gtest/gtest.h>

namespace polyhead {
namespace {

using namespace std::literals;

// Each count is len(re.split(r"\s+", text)) as Python 3 gives it.
TEST(CountWords, CountsAsPythonsSplit) {
  EXPECT_EQ(count_words(""), 1);
  EXPECT_EQ(count_words("one"), 1);
  EXPECT_EQ(count_words("one two"), 2);
  EXPECT_EQ(count_words(" one  \t two\n"), 4);
  EXPECT_EQ(count_words("\n \n"), 2);
  EXPECT_EQ(count_words("a\u00a0b\u2003c\u3000d\u0085e\x1c"
                        "f"),
            6);
  EXPECT_EQ(count_words("a\u200bb\u00e9c"), 1);  // a zero-width space is none
}

TEST(Strip, TakesWhiteSpaceOffTheEndsAsPythonDoes) {
  EXPECT_EQ(strip(""), "");
  EXPECT_EQ(strip(" \u3000\n\t\x1f"), "");
  EXPECT_EQ(strip("\u00a0 a \u2003b\u2028 "), "a \u2003b");
  EXPECT_EQ(strip("\u200b \u00e9"), "\u200b \u00e9");
  EXPECT_EQ(strip("\x80 a \xff"), "\x80 a \xff");  // what is not UTF-8 is no space
}

TEST(CountSpaceSeparated, CountsAsPythonsStripAndSplit) {
  EXPECT_EQ(count_space_separated(""), 1);
  EXPECT_EQ(count_space_separated(" one\ntwo  three \n"), 3);  // "one\ntwo", "" and "three"
}

TEST(FindInvalidUtf8, FindsTheFirst) {
  EXPECT_FALSE(find_invalid_utf8("plain, \u00a3, \u20ac, \U0001F600"));
  EXPECT_EQ(find_invalid_utf8("ab\xff"), 2u);
  EXPECT_EQ(find_invalid_utf8("abc\xc3"), 3u);           // breaks off
  EXPECT_EQ(find_invalid_utf8("\xc0\x80"), 0u);          // overlong
  EXPECT_EQ(find_invalid_utf8("a\xed\xa0\x80"), 1u);     // surrogate
  EXPECT_EQ(find_invalid_utf8("\xf4\x90\x80\x80"), 0u);  // above U+10FFFF
  EXPECT_EQ(find_invalid_utf8("\xe2\x82\xac\x80"), 3u);  // stray continuation
}

// As Python 3 decodes them.
TEST(ReplaceInvalidUtf8, ReplacesMaximalSubparts) {
  EXPECT_EQ(replace_invalid_utf8(""), "");
  EXPECT_EQ(replace_invalid_utf8("a\u00a3\U0001F600"), "a\u00a3\U0001F600");
  EXPECT_EQ(replace_invalid_utf8("ab\xff"), "ab\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xe2\x82"), "\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xe2\x82z"), "\uFFFDz");
  EXPECT_EQ(replace_invalid_utf8("\xf0\x9f\x98\xff"), "\uFFFD\uFFFD");
  EXPECT_EQ(replace_invalid_utf8("\xc3\xc3\xa9"), "\uFFFD\u00e9");
  EXPECT_EQ(replace_invalid_utf8("\xe2\x82\xac\x80x"), "\u20ac\uFFFDx");
  EXPECT_EQ(replace_invalid_utf8("\xed\xa0\x80"), "\uFFFD\uFFFD\uFFFD");            // surrogate
  EXPECT_EQ(replace_invalid_utf8("\xe0\x80\xaf"), "\uFFFD\uFFFD\uFFFD");            // overlong
  EXPECT_EQ(replace_invalid_utf8("\xc0\x80"), "\uFFFD\uFFFD");                      // overlong
  EXPECT_EQ(replace_invalid_utf8("\xf4\x90\x80\x80"), "\uFFFD\uFFFD\uFFFD\uFFFD");  // too large
}

TEST(UnfinishedUtf8, CountsBytesThatMoreCouldComplete) {
  EXPECT_EQ(unfinished_utf8(""), 0u);
  EXPECT_EQ(unfinished_utf8("a\u00a3\u20ac\U0001F600"), 0u);
  EXPECT_EQ(unfinished_utf8("a\xc3"), 1u);
  EXPECT_EQ(unfinished_utf8("\xe2\x82"), 2u);
  EXPECT_EQ(unfinished_utf8("\U0001F600\xf0\x9f\x98"), 3u);
  EXPECT_EQ(unfinished_utf8("\xf0\x9f\xc3"), 1u);
  EXPECT_EQ(unfinished_utf8("\xc3x"), 0u);
  EXPECT_EQ(unfinished_utf8("\x80"), 0u);          // continues nothing
  EXPECT_EQ(unfinished_utf8("\xff"), 0u);          // begins nothing
  EXPECT_EQ(unfinished_utf8("\xc0"), 0u);          // overlong
  EXPECT_EQ(unfinished_utf8("\xed\xa0"), 0u);      // surrogate
  EXPECT_EQ(unfinished_utf8("\xf4\x90\x80"), 0u);  // above U+10FFFF
}

TEST(TakeLine, KeepsLineFeeds) {
  std::string_view text = "one\n\nlast";
  EXPECT_EQ(take_line(text), "one\n");
  EXPECT_EQ(take_line(text), "\n");
  EXPECT_EQ(take_line(text), "last");
  EXPECT_TRUE(text.empty());
}

}  // namespace
}  // namespace polyhead
