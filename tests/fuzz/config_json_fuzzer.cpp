// Any text as the config.json of a model folder: refused with an Error, or a model whose own
// config.json is read back as another that can be built, with the special tokens that it named.
#include <cstdint>

#include "layers/huggingface/config_json.h"
#include "layers/huggingface/config_reader.h"
#include "layers/huggingface/special_tokens.h"
#include "tests/support/temporary_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace polyhead;
  const std::string text(reinterpret_cast<const char*>(data), size);
  HuggingFaceModel model;
  const auto read = [&] { model = parse_huggingface_config(text, "config.json"); };
  if (testing::error_of(read) != "no error") return 0;
  const std::int64_t vocab_size = model.config.vocab_size.value();
  SpecialTokens tokens;
  testing::error_of([&] { tokens = parse_special_tokens(text, "config.json", vocab_size); });
  const std::string written = huggingface_config_json(model.config, 64, DType::kF32, tokens);
  parse_huggingface_config(written, "written config.json");
  parse_special_tokens(written, "written config.json", vocab_size);
  return 0;
}
