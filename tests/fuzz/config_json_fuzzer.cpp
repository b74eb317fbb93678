// Any text as the config.json of a model folder: refused with an Error, or a model whose own
// config.json is read back as another that can be built.
#include <cstdint>

#include "layers/huggingface/config_json.h"
#include "layers/huggingface/config_reader.h"
#include "tests/support/temporary_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace polyhead;
  const std::string text(reinterpret_cast<const char*>(data), size);
  HuggingFaceModel model;
  const auto read = [&] { model = parse_huggingface_config(text, "config.json"); };
  if (testing::error_of(read) != "no error") return 0;
  parse_huggingface_config(huggingface_config_json(model.config, 64), "written config.json");
  return 0;
}
