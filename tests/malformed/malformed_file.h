// Files that readers must refuse: each is a small valid file after one named mutation.
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <string_view>

#include "tests/support/allocated_bytes.h"
#include "tests/support/temporary_folder.h"

namespace polyhead::testing {

struct MalformedFile {
  std::string name;     // of the mutation
  std::string content;  // of the whole file
  std::string message;  // part of what the refusal must say
};

inline std::string mutation(const ::testing::TestParamInfo<MalformedFile>& test) {
  return test.param.name;
}
inline void PrintTo(const MalformedFile& file, std::ostream* out) {
  *out << file.name;
}

// The text with one piece of it replaced, which must be there exactly once.
inline std::string replaced(std::string text, std::string_view from, std::string_view to) {
  const std::size_t place = text.find(from);
  POLYHEAD_CHECK(place != std::string::npos && text.find(from, place + 1) == std::string::npos,
                 "'{}' is not in the text once", from);
  return text.replace(place, from.size(), to);
}

inline std::string repeated(std::string_view text, int times) {
  std::string result;
  for (int i = 0; i < times; ++i) result += text;
  return result;
}

// `open` must throw an Error that names the file and the broken rule, without asking for memory
// beyond some multiple of what the file really holds.
template <class Open>
void expect_refused(const std::filesystem::path& path, const MalformedFile& file, Open&& open) {
  constexpr std::size_t kForAnyFile = std::size_t{1} << 20, kTimesTheFile = 64;
  const std::size_t before = allocated_bytes();
  const std::string error = error_of(open);
  const std::size_t allocated = allocated_bytes() - before;
  EXPECT_THAT(error, ::testing::HasSubstr(path.string()));
  EXPECT_THAT(error, ::testing::HasSubstr(file.message));
  EXPECT_LE(allocated, kForAnyFile + kTimesTheFile * file.content.size());
}

}  // namespace polyhead::testing
