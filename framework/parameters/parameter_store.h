// ParameterStore: the flat buffers behind a model's parameters.
//
// Values, gradients and any optimizer state lie in one buffer each with the same layout on all
// ranks, so clearing gradients, reducing them over data-parallel ranks and stepping the optimizer
// are passes over flat memory. Segments start at multiples of 64 bytes (fused stacks stay
// adjacent); the gaps hold zeros. Nothing flat is ever written to a file.
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
  // Binds value and grad of every parameter; gradients and values start at zero.
  ParameterStore(std::vector<Parameter*> parameters, DType dtype, Device device);

  const std::vector<Segment>& segments() const { return segments_; }
  const Tensor& values() const { return values_; }  // (size)
  Tensor& values() { return values_; }
  const Tensor& grads() const { return grads_; }  // (size)
  Tensor& grads() { return grads_; }
  std::int64_t size() const { return values_.numel(); }

  // A zeroed buffer of the same layout, e.g. a moment.
  Tensor make_state() const;
  // The view of one segment in a flat buffer, with the parameter's local shape.
  Tensor view(const Tensor& flat, const Segment& segment) const;

  void initialize(std::uint64_t seed);
  void zero_grads();

 private:
  std::vector<Segment> segments_;
  Tensor values_;
  Tensor grads_;
};

}  // namespace polyhead
