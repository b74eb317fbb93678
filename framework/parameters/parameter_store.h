// ParameterStore: the flat buffers behind a model's parameters.
//
// Values, gradients and any optimizer state lie in one buffer each with the same layout on all
// ranks, so clearing gradients, reducing them over data-parallel ranks and stepping the optimizer
// are passes over flat memory. Segments start at multiples of 64 elements (fused stacks stay
// adjacent); the gaps hold zeros. Nothing flat is ever written to a file.
//
// Where the model computes in bf16, f32 master values lie beside the bf16 ones: the optimizer
// updates the masters, and updates too small for bf16 are not lost.
#pragma once

#include <vector>

#include "framework/parameters/parameter.h"

namespace polyhead {

struct Segment {
  Parameter* parameter;
  std::int64_t begin;  // element offset in the flat buffers
  std::int64_t size;   // elements, padding included
};

class ParameterStore {
 public:
  // Binds value and grad of every parameter; gradients and values start at zero. `dtype` is that of
  // the values; gradients and masters have its accumulation dtype.
  ParameterStore(std::vector<Parameter*> parameters, DType dtype, Device device);

  const std::vector<Segment>& segments() const { return segments_; }
  const Tensor& values() const { return values_; }  // (size)
  Tensor& values() { return values_; }
  // What the optimizer updates: f32 masters, or the values themselves.
  const Tensor& masters() const { return masters_ ? masters_ : values_; }  // (size)
  bool has_masters() const { return static_cast<bool>(masters_); }
  const Tensor& grads() const { return grads_; }  // (size)
  Tensor& grads() { return grads_; }
  std::int64_t size() const { return values_.numel(); }

  // A zeroed buffer of the same layout in the masters' dtype, e.g. a moment.
  Tensor make_state() const;
  // The view of one segment in a flat buffer, with the parameter's local shape.
  Tensor view(const Tensor& flat, const Segment& segment) const;

  // Master and value of one parameter from a host tensor of its local shape, in the masters' dtype.
  void set_value(const Segment& segment, const Tensor& host);
  void initialize(std::uint64_t seed);
  void zero_grads();
  void zero_values();  // gaps and padding too

 private:
  std::vector<Segment> segments_;
  Tensor values_;
  Tensor masters_;  // empty unless values are rounded
  Tensor grads_;
};

}  // namespace polyhead
