#include "framework/parameters/parameter_store.h"

#include <algorithm>

#include "framework/bf16.h"

namespace polyhead {
namespace {

constexpr std::int64_t kAlignment = 64;  // elements

std::int64_t aligned(std::int64_t offset, std::int64_t alignment = kAlignment) {
  return (offset + alignment - 1) / alignment * alignment;
}

FlatRange range_of(const Segment& segment) {
  return {segment.begin, segment.begin + segment.size};
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

FlatRange overlap(const FlatRange& one, const FlatRange& other) {
  const std::int64_t begin = std::max(one.begin, other.begin);
  return {begin, std::max(begin, std::min(one.end, other.end))};
}

ParameterStore::ParameterStore(std::vector<Parameter*> parameters, DType dtype, Device device,
                               const Communicator* shard_over)
    : ParameterStore(std::move(parameters), dtype, device, shard_over, Keeps::kTrainingState) {}

ParameterStore ParameterStore::of_values(std::vector<Parameter*> parameters, DType dtype,
                                         Device device) {
  return {std::move(parameters), dtype, device, nullptr, Keeps::kValues};
}

ParameterStore::ParameterStore(std::vector<Parameter*> parameters, DType dtype, Device device,
                               const Communicator* shard_over, Keeps keeps)
    : shard_over_(shard_over && shard_over->size() > 1 ? shard_over : nullptr) {
  for (Parameter* parameter : parameters) {
    segments_.push_back({parameter, 0, parameter->local_shape.numel()});
  }
  std::int64_t offset = 0;
  for (const bool vectors : {true, false}) {
    for (Segment& segment : segments_) {
      if (segment.parameter->is_vector() != vectors) continue;
      if (!segment.parameter->joins_previous) offset = aligned(offset);
      segment.begin = offset;
      offset += segment.size;
      placed_segments_.push_back(segment);
    }
  }
  const std::int64_t size = aligned(offset, kAlignment * (shard_over_ ? shard_over_->size() : 1));
  const bool trains = keeps == Keeps::kTrainingState;
  const DType wide = accumulation_dtype(dtype);
  values_ = Tensor::zeros({size}, dtype, device);
  masters_ = trains && wide != dtype ? Tensor::zeros({shard().size()}, wide, device)
                                     : values_.row_slice(shard().begin, shard().end);
  if (trains) grads_ = Tensor::zeros({size}, wide, device);
  for (const Segment& segment : segments_) {
    segment.parameter->value = view(values_, segment);
    if (trains) segment.parameter->grad = view(grads_, segment);
  }
}

FlatRange ParameterStore::shard(int rank) const {
  const std::int64_t part = size() / (shard_over_ ? shard_over_->size() : 1);
  return {rank * part, (rank + 1) * part};
}

Tensor ParameterStore::grads(const FlatRange& range) const {
  for (const Segment& segment : segments_) {
    if (overlap(range_of(segment), range).size() > 0) grad_to_add_to(*segment.parameter);
  }
  return grads_.row_slice(range.begin, range.end);
}

Tensor ParameterStore::make_state(DType dtype) const {
  return Tensor::zeros(masters().shape(), dtype, masters().device());
}

Tensor ParameterStore::view(const Tensor& flat, const Segment& segment) const {
  return flat.row_slice(segment.begin, segment.begin + segment.size)
      .reshaped(segment.parameter->local_shape);
}

Tensor ParameterStore::held_part(const Tensor& flat, const Segment& segment) const {
  const FlatRange held = is_sharded(flat) ? shard() : FlatRange{0, size()};
  const FlatRange part = overlap(range_of(segment), held);
  if (part.size() == 0) return flat.row_slice(0, 0);
  return flat.row_slice(part.begin - held.begin, part.end - held.begin);
}

void ParameterStore::set_part(const Tensor& flat, const Segment& segment,
                              const Tensor& local) const {
  Tensor part = held_part(flat, segment);
  if (part.numel() == 0) return;
  const std::int64_t held_begin = is_sharded(flat) ? shard().begin : 0;
  const std::int64_t skipped = std::max<std::int64_t>(held_begin - segment.begin, 0);
  part.copy_from(local.reshaped({segment.size}).row_slice(skipped, skipped + part.numel()));
}

Tensor ParameterStore::whole_segment(const Tensor& flat, const Segment& segment) const {
  if (!is_sharded(flat)) return view(flat, segment);
  Tensor whole = Tensor::empty_like(flat, {segment.size});
  for (int rank = 0; rank < shard_over_->size(); ++rank) {
    const FlatRange range = overlap(range_of(segment), shard(rank));
    if (range.size() == 0) continue;
    Tensor part = whole.row_slice(range.begin - segment.begin, range.end - segment.begin);
    if (rank == shard_over_->rank()) part.copy_from(held_part(flat, segment));
    shard_over_->broadcast(part, rank);
  }
  return whole.reshaped(segment.parameter->local_shape);
}

void ParameterStore::gather_values() {
  if (!shard_over_) return;
  shard_over_->all_gather(values_.row_slice(shard().begin, shard().end), values_);
}

void ParameterStore::set_value(const Segment& segment, const Tensor& host) {
  if (has_masters()) {
    set_part(masters_, segment, host);
    view(values_, segment).copy_from(rounded_to_bf16(host));
  } else {
    view(values_, segment).copy_from(host);
  }
}

void ParameterStore::initialize(std::uint64_t seed) {
  for (const Segment& segment : segments_) {
    set_value(segment, initial_value(*segment.parameter, seed, masters().dtype()));
  }
}

void ParameterStore::zero_grads() {
  std::int64_t matrices_begin = 0;
  for (const Segment& segment : placed_segments_) {
    const bool vector = segment.parameter->is_vector();
    if (vector) matrices_begin = segment.begin + segment.size;
    segment.parameter->grad_is_empty = !vector;
  }
  if (matrices_begin > 0) grads_.row_slice(0, matrices_begin).set_zero();
}

void ParameterStore::zero_values() {
  values_.set_zero();
  if (has_masters()) masters_.set_zero();
}

}  // namespace polyhead
