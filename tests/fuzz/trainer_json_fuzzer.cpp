// Any text as trainer.json, as it is and with the checksum that belongs to it.
#include <cstdint>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/trainer_state.h"
#include "framework/files/json.h"
#include "tests/support/temporary_folder.h"

namespace {

using namespace polyhead;

// Throws Error for what is no JSON object.
std::string sealed(const std::string& text) {
  nlohmann::json document = parse_json(text, "fuzz");
  require(document.is_object(), "no object");
  document.erase("checksum");
  const std::string content = document.dump();
  document["checksum"] = content_hash(std::as_bytes(std::span(content)));
  return document.dump();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  testing::error_of([&] { parse_trainer_state(text, "trainer.json"); });
  testing::error_of([&] { parse_trainer_state(sealed(text), "trainer.json"); });
  return 0;
}
