// Parameter: a named, possibly sharded weight with its gradient.
//
// It says everything that others need to treat it right: how to cut it from the tensor on disk, who
// sums its gradient, who counts it in the gradient norm and who writes it. The storage of value and
// grad comes from a ParameterStore.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "framework/comm/communicator.h"
#include "framework/slice_index.h"
#include "framework/tensor.h"

namespace polyhead {

// How a parameter begins. Normal values depend on (seed, name, global index) alone.
struct Initialization {
  enum class Kind { kZeros, kOnes, kNormal };
  Kind kind = Kind::kNormal;
  double standard_deviation = 0.02;  // kNormal only
};

struct Parameter {
  static constexpr int kReplicated = -1;

  std::string name;    // the name on disk
  Shape global_shape;  // of the whole tensor, without padding
  Shape local_shape;   // of value and grad; along shard_dim it may exceed the shard by padding

  // This rank holds entries [shard_begin, shard_end) of dimension shard_dim, or everything.
  int shard_dim = kReplicated;
  std::int64_t shard_begin = 0;
  std::int64_t shard_end = 0;

  // The group whose copies hold partial gradients, to be summed once per optimizer step; null where
  // the gradient is complete on every copy.
  const Communicator* partial_over = nullptr;
  // Exactly one tensor-parallel rank owns each entry: it counts it in the gradient norm and hands
  // it to the checkpoint. False on the other copies of a replicated entry.
  bool owner = true;
  bool decays = false;          // AdamW's weight decay applies: matrices, not norms or biases
  bool joins_previous = false;  // stored directly behind the previous parameter: one fused tensor
  Initialization initialization;

  Tensor value;  // local_shape
  Tensor grad;   // local_shape, accumulated; in the accumulation dtype of value
  // Nothing was added to the sum that ParameterStore::zero_grads began: whatever grad holds, it
  // counts as zeros. Only matrices are left like this.
  bool grad_is_empty = false;

  bool is_sharded() const { return shard_dim != kReplicated; }
  bool is_vector() const { return local_shape.rank() == 1; }  // a norm's weight or a bias
};

// A weight with all entries on every tensor-parallel rank. `tensor_rank` decides the owner.
Parameter replicated_parameter(std::string name, const Shape& shape, int tensor_rank,
                               Initialization initialization);
// A weight of which this rank holds [begin, end) along `dim`, stored in `local_size` >= end - begin
// entries (0: exactly end - begin).
Parameter sharded_parameter(std::string name, const Shape& global_shape, int dim,
                            std::int64_t begin, std::int64_t end, Initialization initialization,
                            std::int64_t local_size = 0);

// The rows of the value (or gradient) without padding along shard_dim: what a file holds.
Tensor valid_part(const Parameter& parameter, const Tensor& local);

// Where the entries of local_shape lie in the whole tensor; padding counts on.
SliceIndex slice_index(const Parameter& parameter);

// One (rows, cols) view over `parts`, which a ParameterStore has laid out one behind the other.
Tensor joined_values(std::span<const Parameter> parts);
Tensor joined_grads(std::span<const Parameter> parts);

// The gradient of a product y = x W^T, where W (out, in) joins `parts`: dW += dy^T x with dy
// (N, out), x (N, in), or dW = where that is empty, which saves a pass that zeroes it and one that
// reads the zeros.
void add_weight_grad(const Tensor& dy, const Tensor& x, std::span<Parameter> parts);
// A matrix's gradient for an op that can only add: if empty, it becomes zeros.
Tensor& grad_to_add_to(Parameter& parameter);

// How the parameter begins, as a host tensor of local_shape in f32 or f64: what `initialization`
// says, zero in the padding. The result is independent of the sharding.
Tensor initial_value(const Parameter& parameter, std::uint64_t seed, DType dtype);

}  // namespace polyhead
