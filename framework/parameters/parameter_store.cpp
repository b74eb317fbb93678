#include "framework/parameters/parameter_store.h"

#include "framework/bf16.h"

namespace polyhead {
namespace {

constexpr std::int64_t kAlignment = 64;  // elements

std::int64_t aligned(std::int64_t offset) {
  return (offset + kAlignment - 1) / kAlignment * kAlignment;
}

Tensor rounded_to_bf16(const Tensor& wide) {
  Tensor rounded = Tensor::empty(wide.shape(), DType::kBf16);
  const float* const from = wide.data<float>();
  Bf16* const to = rounded.data<Bf16>();
#pragma omp parallel for schedule(static)
  for (std::int64_t i = 0; i < wide.numel(); ++i) to[i] = to_bf16(from[i]);
  return rounded;
}

}  // namespace

ParameterStore::ParameterStore(std::vector<Parameter*> parameters, DType dtype, Device device) {
  std::int64_t offset = 0;
  for (Parameter* parameter : parameters) {
    if (!parameter->joins_previous) offset = aligned(offset);
    segments_.push_back({parameter, offset, parameter->local_shape.numel()});
    offset += segments_.back().size;
  }
  const DType wide = accumulation_dtype(dtype);
  values_ = Tensor::zeros({aligned(offset)}, dtype, device);
  if (wide != dtype) masters_ = Tensor::zeros({aligned(offset)}, wide, device);
  grads_ = Tensor::zeros({aligned(offset)}, wide, device);
  for (const Segment& segment : segments_) {
    segment.parameter->value = view(values_, segment);
    segment.parameter->grad = view(grads_, segment);
  }
}

Tensor ParameterStore::make_state() const {
  return Tensor::zeros_like(masters());
}

Tensor ParameterStore::view(const Tensor& flat, const Segment& segment) const {
  return flat.row_slice(segment.begin, segment.begin + segment.size)
      .reshaped(segment.parameter->local_shape);
}

void ParameterStore::set_value(const Segment& segment, const Tensor& host) {
  view(masters(), segment).copy_from(host);
  if (has_masters()) view(values_, segment).copy_from(rounded_to_bf16(host));
}

void ParameterStore::initialize(std::uint64_t seed) {
  for (const Segment& segment : segments_) {
    set_value(segment, initial_value(*segment.parameter, seed, masters().dtype()));
  }
}

void ParameterStore::zero_grads() {
  grads_.set_zero();
}

void ParameterStore::zero_values() {
  values_.set_zero();
  if (has_masters()) masters_.set_zero();
}

}  // namespace polyhead
