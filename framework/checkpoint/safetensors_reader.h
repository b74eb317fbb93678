// Reads the tensors of a safetensors file, or of a folder that holds one or several of them.
//
// Files are mapped, so ranks that read slices of one file share its pages, and opening costs no
// more than the headers. Links to files are followed: Hugging Face's cache consists of them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "framework/checkpoint/safetensors_format.h"
#include "framework/files/mapped_file.h"

namespace polyhead {

class SafetensorsReader {
 public:
  explicit SafetensorsReader(const std::filesystem::path& file);
  // FOLDER/STEM.safetensors or, where that is absent, the shards that
  // FOLDER/STEM.safetensors.index.json lists; the index must agree with the shards tensor by
  // tensor, and may name no file outside the folder. Its metadata is not read, total_size included,
  // which transformers does not compare either.
  SafetensorsReader(const std::filesystem::path& folder, const std::string& stem);

  std::vector<std::string> names() const;  // sorted
  bool contains(std::string_view name) const;
  // Throws Error for a tensor whose dtype Polyhead does not load: any but F64, F32, F16, BF16, I64
  // and I32.
  TensorInfo info(std::string_view name) const;
  std::vector<TensorInfo> tensors() const;  // info of all, by name
  // The file that holds a tensor, for messages.
  const std::filesystem::path& file_of(std::string_view name) const;

  // The whole tensor in its own dtype.
  Tensor read(std::string_view name) const;
  // Entries [begin, end) of dimension `dim` (0 or 1), converted to the dtype of `out`, which has
  // the slice's shape and may be a strided view; element_conversion.h says which dtypes convert.
  void read_slice(std::string_view name, int dim, std::int64_t begin, std::int64_t end,
                  Tensor& out) const;

 private:
  struct Location {
    std::size_t file;
    StoredTensor tensor;
  };

  void add_file(const std::filesystem::path& file);
  void add_shards(const std::filesystem::path& index);
  const Location& find(std::string_view name) const;

  std::filesystem::path source_;  // what the caller asked for
  std::vector<MappedFile> files_;
  std::map<std::string, Location, std::less<>> locations_;
};

}  // namespace polyhead
