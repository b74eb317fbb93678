// One forward and backward pass of a small model, on one rank or split over several, with the
// result put together as whole tensors on every rank so that runs can be compared. Free of
// GoogleTest: the benchmarks use it too.
#pragma once

#include <algorithm>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "framework/dispatch.h"
#include "framework/ops/elementwise.h"
#include "framework/parameters/parameter_store.h"
#include "layers/model.h"
#include "tests/support/cuda.h"
#include "tests/support/poisoned_gradients.h"

namespace polyhead::testing {

// Token ids spread over the vocabulary; position -1 marks what the loss ignores.
inline Tensor token_ids(std::int64_t count, std::int64_t vocabulary, std::string_view name) {
  Tensor ids = Tensor::empty({count}, DType::kI32);
  for (std::int64_t i = 0; i < count; ++i) {
    ids.data<std::int32_t>()[i] =
        static_cast<std::int32_t>(uniform(99, stream_id(name), static_cast<std::uint64_t>(i)) *
                                  static_cast<double>(vocabulary));
  }
  return ids;
}

struct RunShape {
  std::int64_t batch = 2;
  std::int64_t length = 6;
  DType dtype = DType::kF64;
  bool sequence_parallel = false;
  Recompute recompute = Recompute::kNone;
  Device device = Device::kCpu;
};

// Whole tensors by name: "loss", "hidden", "dhidden" and the gradient of every parameter.
class RunResult {
 public:
  void put(const std::string& name, Tensor whole) { tensors_[name] = std::move(whole); }
  void put_gradient(const std::string& name, const Tensor& whole) {
    largest_gradient_ = std::max(largest_gradient_, max_abs(whole));
    put(name, whole);
  }
  // What this rank holds of a gradient, owned or not, and the same entries of the whole one.
  void compare_copy(const Tensor& held, const Tensor& whole) {
    copy_error_ = std::max(copy_error_, relative_error(held, whole));
  }

  const std::map<std::string, Tensor>& tensors() const { return tensors_; }
  // How far this rank's gradients are from the owners', relative to the largest of each.
  double copy_error() const { return copy_error_; }

  // The largest relative error over all tensors, floored by a share of the largest gradient.
  double error_against(const RunResult& reference, std::string* worst = nullptr,
                       double floor = 1e-3) const {
    constexpr double kInfinite = std::numeric_limits<double>::infinity();
    if (tensors_.size() != reference.tensors_.size()) return kInfinite;
    double error = 0;
    for (const auto& [name, tensor] : reference.tensors_) {
      const auto found = tensors_.find(name);
      const double here =
          found == tensors_.end()
              ? kInfinite
              : relative_error(found->second, tensor, floor * reference.largest_gradient_);
      if (here >= error && worst != nullptr) *worst = name;
      error = std::max(error, here);
    }
    return error;
  }

 private:
  std::map<std::string, Tensor> tensors_;
  double largest_gradient_ = 0;
  double copy_error_ = 0;
};

// The entries of a whole tensor that this rank holds of it.
inline Tensor held_part(const Parameter& parameter, const Tensor& whole) {
  if (!parameter.is_sharded()) return whole;
  return parameter.shard_dim == 0 ? whole.row_slice(parameter.shard_begin, parameter.shard_end)
                                  : whole.column_slice(parameter.shard_begin, parameter.shard_end);
}

// A whole tensor on every rank, from what the owners of its entries hold: `local` has the
// parameter's local shape. Gathers and adds here, exactly, since all but one are zero: an
// all_reduce would be forgotten by a ForgetfulCommunicator.
inline Tensor whole_tensor(const Parameter& parameter, const Tensor& local,
                           const Communicator& communicator) {
  Tensor mine = Tensor::zeros(parameter.global_shape, local.dtype());
  if (parameter.owner) {
    held_part(parameter, mine).copy_from(to_host(valid_part(parameter, local)));
  }
  const std::int64_t size = mine.numel();
  Tensor all = Tensor::empty_like(mine, {communicator.size() * size});
  communicator.all_gather(mine.reshaped({size}), all);
  Tensor whole = Tensor::zeros_like(mine);
  for (int rank = 0; rank < communicator.size(); ++rank) {
    ops::add_to(all.row_slice(rank * size, (rank + 1) * size).reshaped(mine.shape()), whole);
  }
  return whole;
}

inline Tensor whole_gradient(const Parameter& parameter, const Communicator& communicator) {
  return whole_tensor(parameter, parameter.grad, communicator);
}

// Weights of norms begin as ones and biases as zeros: then one taken for another would not show.
inline void scatter_vectors(ParameterStore& store) {
  for (const Segment& segment : store.segments()) {
    const Parameter& parameter = *segment.parameter;
    if (parameter.global_shape.rank() != 1) continue;
    const Tensor host = store.view(store.masters(), segment).to(Device::kCpu).clone();
    Tensor value = valid_part(parameter, host);
    dispatch_cpu_float(value.dtype(), [&]<class T>() {
      for (std::int64_t i = 0; i < value.numel(); ++i) {
        const auto index = static_cast<std::uint64_t>(parameter.shard_begin + i);
        value.data<T>()[i] +=
            static_cast<T>(0.4 * uniform(5, stream_id(parameter.name), index) - 0.2);
      }
    });
    store.set_value(segment, host);
  }
}

// Call on every rank of `communicator`; each gets the whole result.
inline RunResult run_model(const ModelConfig& config, const RunShape& shape,
                           const Communicator& communicator) {
  TensorParallel parallel(communicator, shape.sequence_parallel);
  Model model(config, shape.length, parallel, shape.dtype, shape.recompute, shape.device);
  ParameterStore store(model.parameters(), shape.dtype, shape.device);
  store.initialize(5);
  scatter_vectors(store);
  zero_poisoned_grads(store);
  const std::int64_t tokens = shape.batch * shape.length;
  // No id occurs twice, so each row of an untied embedding's gradient is a row of dx: the gradient
  // of the first block's input is compared without a name of its own.
  Tensor ids = Tensor::empty({tokens}, DType::kI32);
  for (std::int64_t i = 0; i < tokens; ++i) {
    ids.data<std::int32_t>()[i] = static_cast<std::int32_t>((7 * i + 3) % *config.vocab_size);
  }
  Tensor targets = token_ids(tokens, *config.vocab_size, "targets");
  targets.data<std::int32_t>()[3] = -1;

  Model::Saved saved;
  const Tensor hidden = model.forward(ids.to(shape.device), shape.batch, saved);
  Tensor loss = Tensor::zeros({1}, DType::kF64, shape.device), dhidden;
  model.output_loss().loss_and_gradient(hidden, targets.to(shape.device),
                                        1.0 / static_cast<double>(tokens - 1), loss, dhidden);
  model.backward(dhidden, saved);
  for (Parameter* parameter : model.parameters()) {
    if (parameter->partial_over) parameter->partial_over->all_reduce(parameter->grad);
  }

  RunResult result;
  result.put("loss", to_host(loss));
  result.put("hidden", to_host(parallel.enter(hidden)));
  result.put_gradient("dhidden", to_host(parallel.enter(dhidden)));
  for (const Parameter* parameter : model.parameters()) {
    const Tensor whole = whole_gradient(*parameter, communicator);
    result.put_gradient(parameter->name, whole);
    result.compare_copy(to_host(valid_part(*parameter, parameter->grad)),
                        held_part(*parameter, whole));
  }
  return result;
}

}  // namespace polyhead::testing
