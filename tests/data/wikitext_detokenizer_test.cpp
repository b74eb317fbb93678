// Against what Python makes of the same pages (tests/data/wikitext/make_pages.py).
#include "data/wikitext_detokenizer.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "data/text.h"
#include "framework/files/json.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

nlohmann::json pages() {
  const MappedFile file(POLYHEAD_SOURCE_DIR "/tests/data/wikitext/pages.json");
  return parse_json(file.text(), file.path().string(), {.bytes = 1 << 20});
}

TEST(DetokenizeWikitext, EqualsPythons) {
  std::size_t changed = 0;
  for (const nlohmann::json& row : pages()) {
    const std::string page = row.at("page");
    EXPECT_EQ(detokenize_wikitext(page), row.at("text").get<std::string>()) << page;
    changed += detokenize_wikitext(page) != page;
  }
  EXPECT_GT(changed, 100u);
}

TEST(DetokenizeWikitext, ThePagesWordsAreCountedAsPythonDoes) {
  for (const nlohmann::json& row : pages()) {
    const std::string page = row.at("page");
    EXPECT_EQ(count_words(page), row.at("words").get<std::int64_t>()) << page;
    EXPECT_EQ(count_space_separated(page), row.at("space_separated").get<std::int64_t>()) << page;
  }
}

// A page of a megabyte without a closing bracket must not take quadratic time.
TEST(DetokenizeWikitext, TakesLongPages) {
  std::string page;
  while (page.size() < (std::size_t{1} << 20)) page += "( [ { word . ";
  EXPECT_LT(detokenize_wikitext(page).size(), page.size());
}

}  // namespace
}  // namespace polyhead
