// The safetensors format (https://github.com/huggingface/safetensors): u64 little-endian N | N
// bytes of JSON | data.
//
// The JSON object maps each tensor's name to {"dtype", "shape", "data_offsets": [begin, end]},
// offsets relative to the data, row-major little-endian elements; "__metadata__" maps strings to
// strings. The order of the keys means nothing, N is at most 100,000,000, spaces may follow the
// object. Tensors tile the data without holes or overlaps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "framework/tensor.h"

namespace polyhead {

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;

  std::uint64_t bytes() const { return static_cast<std::uint64_t>(shape.numel()) * size_of(dtype); }
};

// An element type of the format.
struct StoredType {
  std::string_view name;  // "BF16"
  std::uint64_t bits = 0;
  std::optional<DType> dtype;  // absent: Polyhead knows its size but loads no such tensor
};

// A tensor of a file and the position of its bytes within the file.
struct StoredTensor {
  std::string name;
  StoredType type;
  Shape shape;
  std::uint64_t begin = 0;
  std::uint64_t bytes = 0;
};

// Checks a whole file against every rule of the format before anything of it is used: the size of
// the header, its JSON, known dtypes, at most four dimensions, products that do not overflow,
// offsets that tile the data and end with the file. Throws Error with `source`, the tensor and the
// broken rule. Returns the tensors in the order of their data. Costs memory in proportion to the
// header that is there, whatever the file claims.
std::vector<StoredTensor> parse_safetensors(std::span<const std::byte> file,
                                            const std::string& source);

// Sorts as the format's writers do: larger element types first, so that all data is aligned, then
// by name.
void sort_for_file(std::vector<TensorInfo>& tensors);
// The bytes before the data, for tensors stored in the given order; a multiple of 8.
std::string safetensors_header(std::span<const TensorInfo> tensors);

}  // namespace polyhead
