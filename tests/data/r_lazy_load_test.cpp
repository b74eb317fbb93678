#include "data/r_lazy_load.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <zlib.h>

#include "data/r_serialization.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using namespace testing;

std::string word(std::uint32_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes.push_back(static_cast<char>(value >> shift));
  return bytes;
}

std::string header() {
  return "X\n" + word(3) + word(0x040201) + word(0x030500) + word(5) + "UTF-8";
}

std::string characters(const std::string& text) {
  return word(9 | 0x40000) + word(static_cast<std::uint32_t>(text.size())) + text;
}

std::string strings(const std::vector<std::string>& all) {
  std::string bytes = word(16) + word(static_cast<std::uint32_t>(all.size()));
  for (const std::string& text : all) bytes += characters(text);
  return bytes;
}

std::string integers(const std::vector<std::uint32_t>& all) {
  std::string bytes = word(13) + word(static_cast<std::uint32_t>(all.size()));
  for (const std::uint32_t value : all) bytes += word(value);
  return bytes;
}

// A list with names; the symbol "names" is written the first time it closes, then referred to.
std::string list(const std::vector<std::string>& elements, const std::vector<std::string>& names,
                 bool first) {
  std::string bytes = word(19 | 0x200) + word(static_cast<std::uint32_t>(elements.size()));
  for (const std::string& element : elements) bytes += element;
  const std::string tag = first ? word(1) + characters("names") : word(0x1FF);
  return bytes + word(2 | 0x400) + tag + strings(names) + word(254);
}

std::string deflated(const std::string& text) {
  uLongf size = compressBound(static_cast<uLong>(text.size()));
  std::string packed(size, '\0');
  compress(reinterpret_cast<Bytef*>(packed.data()), &size,
           reinterpret_cast<const Bytef*>(text.data()), static_cast<uLong>(text.size()));
  packed.resize(size);
  return packed;
}

class LazyLoadTest : public ::testing::Test {
 protected:
  // Two novels, the second of which lies at `place` if one is given.
  void write_database(const std::vector<std::uint32_t>& place = {}) {
    std::string values;
    std::vector<std::string> places;
    for (const auto& lines : {std::vector<std::string>{"one", "", "\u00a35"}, {"two"}}) {
      const std::string packed = deflated(header() + strings(lines));
      places.push_back(integers({static_cast<std::uint32_t>(values.size()),
                                 static_cast<std::uint32_t>(packed.size()) + 4}));
      values += word(static_cast<std::uint32_t>(lines.size())) + packed;
    }
    if (!place.empty()) places[1] = integers(place);
    const std::string index =
        header() + list({list(places, {"emma", "persuasion"}, true), word(10) + word(1) + word(1)},
                        {"variables", "compressed"}, false);
    write_file(folder_ / "Rdata.rdx", deflated(index));
    write_file(folder_ / "Rdata.rdb", values);
  }

  std::string error() {
    return error_of([&] { read_r_character_vectors(folder_ / "Rdata"); });
  }

  TemporaryFolder folder_;
};

TEST_F(LazyLoadTest, ReadsCharacterVectors) {
  write_database();
  const auto vectors = read_r_character_vectors(folder_ / "Rdata");
  ASSERT_EQ(vectors.size(), 2u);
  EXPECT_THAT(vectors.at("emma"), ElementsAre("one", "", "\u00a35"));
  EXPECT_THAT(vectors.at("persuasion"), ElementsAre("two"));
}

TEST_F(LazyLoadTest, RefusesDamagedFiles) {
  write_database();
  write_file(folder_ / "Rdata.rdb", "too short");
  EXPECT_THAT(error(), HasSubstr("Rdata.rdb: the place of 'emma' lies outside the file"));
  write_database({0, 0xFFFFFFFF});
  EXPECT_THAT(error(), HasSubstr("the place of 'persuasion' lies outside"));
  write_database({1, 20});
  EXPECT_THAT(error(), HasSubstr("not a whole zlib stream"));
  write_file(folder_ / "Rdata.rdx", deflated("something else"));
  EXPECT_THAT(error(), HasSubstr("Rdata.rdx: not R data in XDR form"));
  write_file(folder_ / "Rdata.rdx", deflated(header() + list({}, {}, true)));
  EXPECT_THAT(error(), HasSubstr("no element 'compressed'"));
  write_file(folder_ / "Rdata.rdx", "");
  EXPECT_THAT(error(), HasSubstr("not a whole zlib stream"));
}

TEST(RSerialization, EveryTruncationIsRefused) {
  const std::string whole =
      header() + list({strings({"one", "two"}), integers({1, 2})}, {"a", "b"}, true);
  const RValue value = parse_r_serialization(whole, "whole");
  EXPECT_THAT(value.names, ElementsAre("a", "b"));
  EXPECT_THAT(value.elements[0].strings, ElementsAre("one", "two"));
  EXPECT_THAT(value.elements[1].integers, ElementsAre(1, 2));
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_THAT(error_of([&] { parse_r_serialization(whole.substr(0, size), "part"); }),
                HasSubstr("part: "));
  }
}

TEST(RSerialization, RefusesHostileData) {
  const auto error_for = [](const std::string& bytes) {
    return error_of([&] { parse_r_serialization(header() + bytes, "bad"); });
  };
  EXPECT_THAT(error_for(word(16) + word(0xFFFFFFFF)), HasSubstr("breaks off"));
  EXPECT_THAT(error_for(word(3)), HasSubstr("R type 3 is not supported"));
  EXPECT_THAT(error_for(word(0x5FF)), HasSubstr("R symbol 5 of 0"));
  std::string deep;
  for (int i = 0; i < 1000; ++i) deep += word(19) + word(1);
  EXPECT_THAT(error_for(deep), HasSubstr("nests deeper"));
}

}  // namespace
}  // namespace polyhead
