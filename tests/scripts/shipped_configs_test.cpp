// What configs/ holds, and whether its README says of every key what the code does.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "framework/config/field_writer.h"
#include "scripts/train_config.h"
#include "scripts/train_config_fields.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

std::vector<std::filesystem::path> shipped_configs() {
  std::vector<std::filesystem::path> paths;
  for (const auto& file :
       std::filesystem::recursive_directory_iterator(POLYHEAD_SOURCE_DIR "/configs")) {
    if (file.path().extension() == ".yaml") paths.push_back(file.path());
  }
  return paths;
}

TEST(ShippedConfigs, LoadAndValidate) {
  EXPECT_EQ(shipped_configs().size(), 24u);
  for (const std::filesystem::path& path : shipped_configs()) {
    const TrainConfig config = load_train_config(path, {}, std::nullopt);
    EXPECT_EQ(to_yaml(parse_resolved_config(to_yaml(config), path.string())), to_yaml(config));
  }
}

TEST(ShippedConfigs, HoldTheVariantsOfTheirNames) {
  const std::pair<const char*, const char*> variants[] = {
      {"mha", "MHA"}, {"gqa", "GQA"}, {"mqa", "MQA"}, {"mla", "MLA"}, {"swa", "MHA+SWA"}};
  for (const char* size : {"quickstart", "124m", "1b"}) {
    for (const auto& [name, variant] : variants) {
      const std::string path =
          fmt::format("{}/configs/{}_{}.yaml", POLYHEAD_SOURCE_DIR, size, name);
      EXPECT_EQ(attention_variant(load_train_config(path, {}, std::nullopt).model), variant);
    }
  }
}

// A row of configs/README.md: | `key` | type | default | aliases | meaning |
std::string readme_row(const std::string& readme, const std::string& key) {
  const std::size_t at = readme.find(fmt::format("\n| `{}` |", key));
  return at == std::string::npos ? "" : readme.substr(at + 1, readme.find('\n', at + 1) - at - 1);
}

TEST(ShippedConfigs, ReadmeHasARowForEveryKey) {
  const std::string readme = testing::read_file(POLYHEAD_SOURCE_DIR "/configs/README.md");
  for (const KnownKey& key : known_keys<TrainConfig>()) {
    if (key.section.empty()) {
      EXPECT_THAT(readme, HasSubstr(fmt::format("## `{}`", key.name)));
      continue;
    }
    const std::string row = readme_row(readme, key.name);
    EXPECT_THAT(row, Not(IsEmpty())) << key.path();
    for (const std::string_view alias : key.aliases) {
      EXPECT_THAT(row, HasSubstr(fmt::format("`{}`", alias))) << key.path();
    }
  }
}

// Lists "key: default" of the fields that always have a value.
struct DefaultLister {
  std::string readme;

  template <class T>
  void operator()(std::string_view key, T& value, const FieldOptions& options = {}) {
    if constexpr (Section<T>) {
      visit_fields(*this, value);
    } else if constexpr (!IsOptional<T>::value) {
      FieldWriter writer;
      writer(key, value);
      std::string text = writer.text().substr(key.size() + 2);
      text.pop_back();
      if (options.required || text == "[]" || key == "train_steps") return;
      EXPECT_THAT(readme_row(readme, std::string(key)), HasSubstr(fmt::format("| {} |", text)))
          << key;
    }
  }
  void unsupported(std::string_view key, std::string_view, std::string_view) {
    EXPECT_NE(readme.find(fmt::format("`{}`", key)), std::string::npos) << key;
  }
};

TEST(ShippedConfigs, ReadmeGivesTheDefaults) {
  DefaultLister lister{testing::read_file(POLYHEAD_SOURCE_DIR "/configs/README.md")};
  TrainConfig defaults;
  visit_fields(lister, defaults);
}

}  // namespace
}  // namespace polyhead
