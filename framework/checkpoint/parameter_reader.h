// Reads parameters, under their own names, from a model file in whatever layout.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "framework/checkpoint/safetensors_reader.h"
#include "framework/checkpoint/tensor_layout.h"

namespace polyhead {

class ParameterReader {
 public:
  // Throws Error for a tensor of the layout that is missing or has another shape, and for a copy
  // that differs from its parameter, which are compared byte by byte.
  explicit ParameterReader(SafetensorsReader file, TensorLayout layout = {});

  // Of the parameters; the file's tensors that are none, are no copies and are not ignored, come
  // under the names they have there.
  std::vector<std::string> names() const;
  TensorInfo info(std::string_view name) const;
  std::vector<TensorInfo> tensors() const;  // info of all, by name
  // The file that holds a parameter, for messages.
  const std::filesystem::path& file_of(std::string_view name) const;

  // The whole parameter in the dtype of the file. One that is packed costs memory for twice the
  // packed tensor.
  Tensor read(std::string_view name) const;
  // Entries [begin, end) of dimension `dim`, as SafetensorsReader::read_slice says. One that is
  // packed is read whole.
  void read_slice(std::string_view name, int dim, std::int64_t begin, std::int64_t end,
                  Tensor& out) const;

 private:
  struct Place {
    const PackedTensor* packed;
    std::int64_t begin, end;  // rows of the stack
  };

  // The name in the file, with or without the optional prefix.
  std::string stored_name(const std::string& name) const;
  void check_packed(const PackedTensor& packed) const;
  void check_copies() const;

  SafetensorsReader file_;
  TensorLayout layout_;
  bool lacks_prefix_ = false;
  std::map<std::string, Place, std::less<>> places_;  // of the parameters that are packed
};

}  // namespace polyhead
