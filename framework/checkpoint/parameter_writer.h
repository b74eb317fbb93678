// Writes parameters, given under their own names, into a model file in whatever layout.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "framework/checkpoint/safetensors_writer.h"
#include "framework/checkpoint/tensor_layout.h"

namespace polyhead {

// The order in which a ParameterWriter takes parameters: those of one packed tensor follow each
// other, and packed tensors the others as the format's writers sort their names.
std::vector<TensorInfo> writing_order(const std::vector<TensorInfo>& parameters,
                                      const TensorLayout& layout);

class ParameterWriter {
 public:
  // Plans files as SafetensorsWriter does. Every parameter that the layout packs must be among
  // `parameters`, and those of one tensor have one dtype.
  ParameterWriter(std::filesystem::path folder, std::string stem,
                  const std::vector<TensorInfo>& parameters, TensorLayout layout,
                  std::uint64_t max_shard_bytes = SafetensorsWriter::kDefaultShardBytes);

  // The order in which the parameters must be written.
  const std::vector<TensorInfo>& parameters() const { return parameters_; }
  // The next parameter, whole, on the host. Those of a packed tensor are kept until the last of
  // them comes: memory for twice that tensor.
  void write(const Tensor& parameter);
  // After the last: as SafetensorsWriter::finish.
  std::vector<FileRecord> finish() { return writer_.finish(); }

 private:
  TensorLayout layout_;
  std::vector<TensorInfo> parameters_;
  SafetensorsWriter writer_;
  std::size_t next_ = 0;  // of parameters_
  std::vector<Tensor> parts_;
};

}  // namespace polyhead
