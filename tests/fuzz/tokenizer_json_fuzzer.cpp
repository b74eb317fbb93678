// Any text as tokenizer.json: refused with an Error, or it encodes and decodes a text of letters,
// digits, marks, white space and bytes that are not UTF-8.
#include <cstdint>

#include "data/byte_level_tokenizer.h"
#include "tests/support/temporary_folder.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace polyhead;
  constexpr std::string_view kText =
      "It's 1234  words, <|endoftext|>\r\n\n\tna\xC3\xAFve e\xCC\x81 \xE4\xB8\xAD\xF0\x9F\x99\x82 "
      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!\xFF\xC3";
  static const testing::TemporaryFolder folder;
  const std::filesystem::path path = folder / "tokenizer.json";
  testing::write_file(path, std::string(reinterpret_cast<const char*>(data), size));
  testing::error_of([&] {
    const ByteLevelTokenizer tokenizer(path);
    tokenizer.decode(tokenizer.encode(kText));
  });
  return 0;
}
