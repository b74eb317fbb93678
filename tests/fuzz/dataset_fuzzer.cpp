// Any bytes as an .idx, after one for the size of the .bin: refused with an Error, or all of its
// documents can be read.
#include <cstdint>
#include <vector>

#include "data/indexed_dataset.h"
#include "tests/support/temporary_folder.h"

namespace {

using namespace polyhead;

void read_all(const std::string& prefix) {
  const IndexedDataset dataset(prefix);
  for (std::int64_t document = 0; document < dataset.document_count(); ++document) {
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(dataset.document_length(document)));
    dataset.read(document, 0, tokens, 1 << 30);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  static const testing::TemporaryFolder folder;
  testing::write_file(folder / "fuzz.bin", std::string(data[0], '\x01'));
  testing::write_file(folder / "fuzz.idx",
                      std::string(reinterpret_cast<const char*>(data) + 1, size - 1));
  testing::error_of([&] { read_all((folder / "fuzz").string()); });
  return 0;
}
