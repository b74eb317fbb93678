#include "framework/checkpoint/parameter_reader.h"

#include <algorithm>
#include <cstring>
#include <set>
#include <utility>

#include "framework/checkpoint/element_conversion.h"
#include "framework/checkpoint/tensor_packing.h"
#include "framework/error.h"

namespace polyhead {

ParameterReader::ParameterReader(SafetensorsReader file, TensorLayout layout)
    : file_(std::move(file)), layout_(std::move(layout)) {
  const std::string& prefix = layout_.optional_prefix;
  lacks_prefix_ = !prefix.empty() && std::ranges::none_of(file_.names(), [&](const auto& name) {
    return name.starts_with(prefix);
  });
  for (const PackedTensor& packed : layout_.tensors) {
    check_packed(packed);
    std::int64_t begin = 0;
    for (const PackedTensor::Part& part : packed.parts) {
      places_[part.parameter] = {&packed, begin, begin + part.rows};
      begin += part.rows;
    }
  }
  check_copies();
}

std::string ParameterReader::stored_name(const std::string& name) const {
  const std::string& prefix = layout_.optional_prefix;
  return lacks_prefix_ && name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

void ParameterReader::check_packed(const PackedTensor& packed) const {
  const std::string name = stored_name(packed.name);
  const Shape shape = file_.info(name).shape;
  const std::int64_t rows = stacked_rows(packed);
  const int dim = packed.transposed ? 1 : 0;
  require(shape.rank() > dim && shape[dim] == rows,
          "{}: {} has shape {}, this model needs {} entries along dimension {}",
          file_.file_of(name).string(), name, shape.to_string(), rows, dim);
}

void ParameterReader::check_copies() const {
  for (const auto& [copy, parameter] : layout_.copies) {
    if (!file_.contains(copy)) continue;
    const Tensor held = file_.read(copy), wanted = read(parameter);
    const bool equal = held.shape() == wanted.shape() && held.dtype() == wanted.dtype() &&
                       std::memcmp(held.raw(), wanted.raw(), held.bytes()) == 0;
    require(equal,
            "{}: {} differs from {}, of which this model has one for both; set "
            "tie_word_embeddings to false in config.json, or delete the tensor",
            file_.file_of(copy).string(), copy, parameter);
  }
}

std::vector<std::string> ParameterReader::names() const {
  std::set<std::string> others;
  for (const PackedTensor& packed : layout_.tensors) others.insert(stored_name(packed.name));
  for (const std::string& name : layout_.ignored) others.insert(stored_name(name));
  for (const auto& [copy, parameter] : layout_.copies) others.insert(copy);
  std::vector<std::string> names;
  for (const auto& [name, place] : places_) names.push_back(name);
  for (const std::string& name : file_.names()) {
    if (!others.contains(name)) names.push_back(name);
  }
  std::ranges::sort(names);
  return names;
}

TensorInfo ParameterReader::info(std::string_view name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) return file_.info(name);
  const Place& place = found->second;
  TensorInfo info = file_.info(stored_name(place.packed->name));
  info.name = name;
  if (place.packed->transposed) std::swap(info.shape[0], info.shape[1]);
  info.shape[0] = place.end - place.begin;
  return info;
}

std::vector<TensorInfo> ParameterReader::tensors() const {
  std::vector<TensorInfo> tensors;
  for (const std::string& name : names()) tensors.push_back(info(name));
  return tensors;
}

const std::filesystem::path& ParameterReader::file_of(std::string_view name) const {
  const auto found = places_.find(name);
  return file_.file_of(found == places_.end() ? std::string(name)
                                              : stored_name(found->second.packed->name));
}

Tensor ParameterReader::read(std::string_view name) const {
  const auto found = places_.find(name);
  if (found == places_.end()) return file_.read(name);
  const auto& [packed, begin, end] = found->second;
  const Tensor stack = unpacked_stack(*packed, file_.read(stored_name(packed->name)));
  return stack.row_slice(begin, end).clone();
}

void ParameterReader::read_slice(std::string_view name, int dim, std::int64_t begin,
                                 std::int64_t end, Tensor& out) const {
  if (!places_.contains(name)) return file_.read_slice(name, dim, begin, end, out);
  const Tensor whole = read(name);
  const Tensor slice = dim == 0 ? whole.row_slice(begin, end) : whole.column_slice(begin, end);
  out.copy_from(converted(slice.clone(), out.dtype()));
}

}  // namespace polyhead
