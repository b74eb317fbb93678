#include "framework/checkpoint/parameter_writer.h"

#include <algorithm>
#include <utility>

#include "framework/checkpoint/tensor_packing.h"
#include "framework/error.h"

namespace polyhead {
namespace {

const PackedTensor* packed_with(const TensorLayout& layout, const std::string& parameter) {
  for (const PackedTensor& packed : layout.tensors) {
    if (std::ranges::any_of(packed.parts,
                            [&](const auto& part) { return part.parameter == parameter; })) {
      return &packed;
    }
  }
  return nullptr;
}

const TensorInfo& info_of(const std::vector<TensorInfo>& parameters, const std::string& name) {
  const auto found =
      std::ranges::find_if(parameters, [&](const TensorInfo& info) { return info.name == name; });
  POLYHEAD_CHECK(found != parameters.end(), "{} is no parameter", name);
  return *found;
}

TensorInfo stored_info(const PackedTensor& packed, const std::vector<TensorInfo>& parameters) {
  TensorInfo info = info_of(parameters, packed.parts.front().parameter);
  info.name = packed.name;
  info.shape[0] = stacked_rows(packed);
  if (packed.transposed) std::swap(info.shape[0], info.shape[1]);
  return info;
}

// The tensors of the file, in its order.
std::vector<TensorInfo> stored_infos(const std::vector<TensorInfo>& parameters,
                                     const TensorLayout& layout) {
  std::vector<TensorInfo> infos;
  for (const TensorInfo& info : parameters) {
    if (packed_with(layout, info.name) == nullptr) infos.push_back(info);
  }
  for (const PackedTensor& packed : layout.tensors) {
    infos.push_back(stored_info(packed, parameters));
  }
  sort_for_file(infos);
  return infos;
}

}  // namespace

std::vector<TensorInfo> writing_order(const std::vector<TensorInfo>& parameters,
                                      const TensorLayout& layout) {
  std::vector<TensorInfo> order;
  for (const TensorInfo& stored : stored_infos(parameters, layout)) {
    const auto packed = std::ranges::find_if(
        layout.tensors, [&](const PackedTensor& tensor) { return tensor.name == stored.name; });
    if (packed == layout.tensors.end()) {
      order.push_back(stored);
      continue;
    }
    for (const PackedTensor::Part& part : packed->parts) {
      order.push_back(info_of(parameters, part.parameter));
    }
  }
  return order;
}

ParameterWriter::ParameterWriter(std::filesystem::path folder, std::string stem,
                                 const std::vector<TensorInfo>& parameters, TensorLayout layout,
                                 std::uint64_t max_shard_bytes)
    : layout_(std::move(layout)),
      parameters_(writing_order(parameters, layout_)),
      writer_(std::move(folder), std::move(stem), stored_infos(parameters, layout_),
              max_shard_bytes) {}

void ParameterWriter::write(const Tensor& parameter) {
  const TensorInfo& info = parameters_.at(next_++);
  POLYHEAD_CHECK(parameter.shape() == info.shape && parameter.dtype() == info.dtype,
                 "{}: {} of {} where {} of {} was announced", info.name,
                 parameter.shape().to_string(), name_of(parameter.dtype()), info.shape.to_string(),
                 name_of(info.dtype));
  const PackedTensor* packed = packed_with(layout_, info.name);
  if (packed == nullptr) return writer_.write(parameter);
  parts_.push_back(parameter);
  if (parts_.size() < packed->parts.size()) return;
  writer_.write(packed_tensor(*packed, stacked(parts_)));
  parts_.clear();
}

}  // namespace polyhead
