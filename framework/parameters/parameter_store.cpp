#include "framework/parameters/parameter_store.h"

#include <cstring>

namespace polyhead {

ParameterStore::ParameterStore(std::vector<Parameter*> parameters, DType dtype, Device device) {
  const std::int64_t alignment = static_cast<std::int64_t>(64 / size_of(dtype));
  const auto aligned = [&](std::int64_t offset) {
    return (offset + alignment - 1) / alignment * alignment;
  };
  std::int64_t offset = 0;
  for (Parameter* parameter : parameters) {
    if (!parameter->joins_previous) offset = aligned(offset);
    segments_.push_back({parameter, offset, parameter->local_shape.numel()});
    offset += segments_.back().size;
  }
  values_ = Tensor::zeros({aligned(offset)}, dtype, device);
  grads_ = Tensor::zeros({aligned(offset)}, dtype, device);
  for (const Segment& segment : segments_) {
    segment.parameter->value = view(values_, segment);
    segment.parameter->grad = view(grads_, segment);
  }
}

Tensor ParameterStore::make_state() const {
  return Tensor::zeros_like(values_);
}

Tensor ParameterStore::view(const Tensor& flat, const Segment& segment) const {
  return flat.row_slice(segment.begin, segment.begin + segment.size)
      .reshaped(segment.parameter->local_shape);
}

void ParameterStore::initialize(std::uint64_t seed) {
  for (const Segment& segment : segments_) polyhead::initialize(*segment.parameter, seed);
}

void ParameterStore::zero_grads() {
  std::memset(grads_.raw(), 0, static_cast<std::size_t>(grads_.numel()) * size_of(grads_.dtype()));
}

}  // namespace polyhead
