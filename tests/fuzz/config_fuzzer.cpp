// Any text as a configuration: a user's file, and the resolved one of a checkpoint.
#include <cstdint>

#include "scripts/train_config.h"
#include "tests/support/temporary_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace polyhead;
  static const testing::TemporaryFolder folder;
  const std::filesystem::path path = folder / "fuzz.yaml";
  const std::string text(reinterpret_cast<const char*>(data), size);
  testing::write_file(path, text);
  testing::error_of([&] {
    const TrainConfig config = load_train_config(path, {}, 2);
    train_config_warnings(config);
    parse_resolved_config(to_yaml(config), "resolved");
  });
  testing::error_of([&] { parse_resolved_config(text, "resolved"); });
  return 0;
}
