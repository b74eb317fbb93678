// ParameterStore: the flat buffers behind a model's parameters.
//
// Values, gradients and any optimizer state lie in one buffer each with the same layout on all
// ranks, so reducing gradients over data-parallel ranks and stepping the optimizer are passes over
// flat memory: few, because all vectors (norms, biases) lie before the matrices. Segments start at
// multiples of 64 elements (fused stacks stay adjacent); the gaps hold zeros. Nothing flat is ever
// written to a file.
//
// A step's sums of gradients begin without a pass over memory: a matrix's is only marked as empty,
// and the first product that is added to it (add_weight_grad) writes over what it held.
//
// Where the model computes in bf16, f32 master values lie beside the bf16 ones: the optimizer
// updates the masters, and updates too small for bf16 are not lost.
//
// Optimizer state (masters, moments) can be sharded over the data-parallel ranks (ZeRO stage 1,
// Rajbhandari et al. 2020): the flat buffers are cut into equal parts, whose borders may lie inside
// a parameter, and each rank holds the state of one. Values and gradients stay whole.
#pragma once

#include <vector>

#include "framework/parameters/parameter.h"

namespace polyhead {

struct Segment {
  Parameter* parameter;
  std::int64_t begin;  // element offset in the flat buffers
  std::int64_t size;   // elements, padding included
};

// Elements of the flat buffers.
struct FlatRange {
  std::int64_t begin;
  std::int64_t end;

  std::int64_t size() const { return end - begin; }
};
// What lies in both; empty, not negative, where nothing does.
FlatRange overlap(const FlatRange& one, const FlatRange& other);

class ParameterStore {
 public:
  // Binds value and grad of every parameter; gradients and values start at zero. `dtype` is that of
  // the values; gradients and masters have its accumulation dtype. `shard_over`, unless null, is
  // the group whose ranks share the optimizer state, and outlives the store; the buffers are then
  // padded to a multiple of 64 elements a rank.
  ParameterStore(std::vector<Parameter*> parameters, DType dtype, Device device,
                 const Communicator* shard_over = nullptr);
  // Of a model that is only run forward: neither gradients nor masters, parameters keep a null
  // grad.
  static ParameterStore of_values(std::vector<Parameter*> parameters, DType dtype, Device device);

  // In the order of the parameters.
  const std::vector<Segment>& segments() const { return segments_; }
  // In the order of the flat buffers.
  const std::vector<Segment>& placed_segments() const { return placed_segments_; }
  const Tensor& values() const { return values_; }  // (size)
  Tensor& values() { return values_; }
  // What the optimizer of this rank updates: f32 masters, or a view of the values themselves.
  const Tensor& masters() const { return masters_; }  // (shard size)
  bool has_masters() const { return masters_.dtype() != values_.dtype(); }
  // The sums of gradients in `range`. Those that are still empty become zeros: of parameters that
  // no backward has touched, so in a whole step none.
  Tensor grads(const FlatRange& range) const;
  Tensor grads() const { return grads({0, size()}); }  // (size)
  std::int64_t size() const { return values_.numel(); }

  // Null where every rank holds all of the state.
  const Communicator* shard_over() const { return shard_over_; }
  // The elements whose state `rank` of shard_over holds, or this rank; everything if not sharded.
  FlatRange shard(int rank) const;
  FlatRange shard() const { return shard(shard_over_ ? shard_over_->rank() : 0); }
  bool is_sharded(const Tensor& flat) const { return flat.numel() != size(); }

  // A zeroed buffer (shard size) of the layout of the masters, e.g. a moment.
  Tensor make_state(DType dtype) const;
  // The view of one segment in a flat buffer that is not sharded, with the parameter's local shape.
  Tensor view(const Tensor& flat, const Segment& segment) const;
  // The view (elements) of what any flat buffer, sharded or not, holds of one segment; may be
  // empty.
  Tensor held_part(const Tensor& flat, const Segment& segment) const;
  // Fills held_part from a tensor of the parameter's local shape.
  void set_part(const Tensor& flat, const Segment& segment, const Tensor& local) const;
  // One segment of any flat buffer, with the parameter's local shape. Of a sharded buffer it is a
  // copy that the ranks' parts are broadcast into: collective over shard_over, which sends the
  // segment once, and memory for one segment.
  Tensor whole_segment(const Tensor& flat, const Segment& segment) const;
  // Every rank receives the values that the others updated: one all_gather in place, of the
  // buffer of values. Nothing to do if not sharded.
  void gather_values();

  // Master and value of one parameter from a host tensor of its local shape, in the masters' dtype.
  void set_value(const Segment& segment, const Tensor& host);
  void initialize(std::uint64_t seed);
  // All gradients are zeros from now on: vectors' at once, matrices' as grad_is_empty says.
  void zero_grads();
  void zero_values();  // gaps and padding too

 private:
  enum class Keeps { kValues, kTrainingState };
  ParameterStore(std::vector<Parameter*> parameters, DType dtype, Device device,
                 const Communicator* shard_over, Keeps keeps);

  std::vector<Segment> segments_, placed_segments_;
  const Communicator* shard_over_;  // null too for a group of one
  Tensor values_;
  Tensor masters_;  // a view of values_ unless they are rounded
  Tensor grads_;
};

}  // namespace polyhead
