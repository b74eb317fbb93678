// Any bytes as a safetensors file: refused with an Error, or all of its tensors can be read.
#include <cstdint>
#include <cstring>

#include "framework/checkpoint/safetensors_reader.h"
#include "tests/support/temporary_folder.h"

namespace {

using namespace polyhead;

void read_all(const std::filesystem::path& path) {
  testing::error_of([&] {
    const SafetensorsReader reader(path);
    for (const std::string& name : reader.names()) {
      testing::error_of([&] { reader.read(name); });
    }
  });
}

// With the size of a header that ends at the last brace: else hardly an input passes the first
// rule.
std::string repaired(std::string file) {
  constexpr std::size_t kPrefixBytes = 8;
  const std::size_t brace = file.rfind('}');
  if (brace == std::string::npos || brace < kPrefixBytes) return file;
  const std::uint64_t size = brace + 1 - kPrefixBytes;
  std::memcpy(file.data(), &size, kPrefixBytes);
  return file;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const testing::TemporaryFolder folder;
  const std::filesystem::path path = folder / "fuzz.safetensors";
  const std::string file(reinterpret_cast<const char*>(data), size);
  for (const std::string& content : {file, repaired(file)}) {
    testing::write_file(path, content);
    read_all(path);
  }
  return 0;
}
