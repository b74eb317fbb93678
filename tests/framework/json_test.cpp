#include "framework/files/json.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "framework/error.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

std::string problem(const std::string& text, const JsonLimits& limits = {}) {
  return error_of([&] { parse_json(text, "f.json", limits); });
}

TEST(Json, DepthCountsBracketsOutsideOfStrings) {
  const std::string text = R"([{"a[[[\"[[[\\": "{{{"}, [1], []])";
  EXPECT_EQ(problem(text, {.depth = 2}), "no error");
  EXPECT_EQ(problem(text, {.depth = 1}), "f.json: JSON nests deeper than 1 levels");
  EXPECT_EQ(problem(std::string(16, '[') + std::string(16, ']')), "no error");
  EXPECT_THAT(problem(std::string(17, '[') + std::string(17, ']')), HasSubstr("16 levels"));
}

TEST(Json, SizeIsBounded) {
  EXPECT_EQ(problem("[1]", {.bytes = 3}), "no error");
  EXPECT_EQ(problem("[1] ", {.bytes = 3}), "f.json: 4 bytes of JSON, at most 3 are read");
}

TEST(Json, WhatTheParserWouldAcceptIsRefused) {
  EXPECT_EQ(problem(std::string("[1]\0]", 5)), "f.json: byte 3 is zero, which JSON has none of");
  EXPECT_THAT(problem(std::string("[\"\\\0\"]", 6)), HasSubstr("not valid JSON"));
  EXPECT_EQ(problem(R"({"a": {"a": 1}, "b": [{"a": 2}, {"a": 3}]})"), "no error");
  EXPECT_EQ(problem(R"({"a": 1, "b": {}, "a": 1})"), "f.json: the key 'a' appears twice");
  EXPECT_THAT(problem("[" + std::string(5000, 'x') + "]"), HasSubstr("f.json: not valid JSON"));
  EXPECT_LE(problem("[" + std::string(5000, 'x') + "]").size(), 400U);
}

TEST(Excerpt, IsSafeToShow) {
  EXPECT_EQ(excerpt("abc", 3), "abc");
  EXPECT_EQ(excerpt("abcd", 3), "abc...");
  EXPECT_EQ(excerpt("\u00e9\u00e9", 3), "\u00e9...") << "cut between characters";
  EXPECT_EQ(excerpt("\x1B[2J\r\x7F\n"), "?[2J???");
  EXPECT_EQ(excerpt(""), "");
}

}  // namespace
}  // namespace polyhead
