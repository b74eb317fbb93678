// One forward and backward pass of a small model, on one rank or split over several, with the
// result put together as whole tensors so that runs can be compared.
#pragma once

#include <map>
#include <mutex>
#include <string>

#include "framework/parameters/parameter_store.h"
#include "layers/model.h"
#include "tests/support/compare.h"

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
};

// Whole tensors by name: "loss", "hidden", "dhidden" and the gradient of every parameter.
class RunResult {
 public:
  void put(const std::string& name, Tensor whole) { tensors_[name] = std::move(whole); }

  // Copies this rank's part of a sharded tensor to its place.
  void put_shard(const Parameter& parameter, const Tensor& local) {
    const std::lock_guard lock(mutex_);
    Tensor& whole = tensors_[parameter.name];
    if (!whole) whole = Tensor::zeros(parameter.global_shape, local.dtype());
    Tensor place = whole;
    if (parameter.shard_dim == 0) {
      place = whole.row_slice(parameter.shard_begin, parameter.shard_end);
    } else if (parameter.shard_dim == 1) {
      place = whole.column_slice(parameter.shard_begin, parameter.shard_end);
    }
    place.copy_from(valid_part(parameter, local));
  }

  const std::map<std::string, Tensor>& tensors() const { return tensors_; }

  // The largest relative error over all tensors, floored by 1e-3 of the largest gradient.
  double error_against(const RunResult& reference, std::string* worst = nullptr) const {
    double largest = 0, error = 0;
    for (const auto& [name, tensor] : reference.tensors_)
      largest = std::max(largest, max_abs(tensor));
    if (tensors_.size() != reference.tensors_.size()) {
      return std::numeric_limits<double>::infinity();
    }
    for (const auto& [name, tensor] : reference.tensors_) {
      const auto found = tensors_.find(name);
      const double here = found == tensors_.end()
                              ? std::numeric_limits<double>::infinity()
                              : relative_error(found->second, tensor, 1e-3 * largest);
      if (here >= error && worst != nullptr) *worst = name;
      error = std::max(error, here);
    }
    return error;
  }

 private:
  std::mutex mutex_;
  std::map<std::string, Tensor> tensors_;
};

// Runs this rank's share and adds it to `result`. Call on every rank of `communicator`.
inline void run_model(const ModelConfig& config, const RunShape& shape,
                      const Communicator& communicator, RunResult& result) {
  TensorParallel parallel(communicator, shape.sequence_parallel);
  Model model(config, shape.length, parallel, shape.dtype, shape.recompute);
  ParameterStore store(model.parameters(), shape.dtype, Device::kCpu);
  store.initialize(5);
  const std::int64_t tokens = shape.batch * shape.length;
  const Tensor ids = token_ids(tokens, *config.vocab_size, "tokens");
  Tensor targets = token_ids(tokens, *config.vocab_size, "targets");
  targets.data<std::int32_t>()[3] = -1;

  Model::Saved saved;
  const Tensor hidden = model.forward(ids, shape.batch, saved);
  Tensor dhidden;
  const double loss = model.output_loss().loss_and_gradient(
      hidden, targets, 1.0 / static_cast<double>(tokens - 1), dhidden);
  model.backward(dhidden, saved);
  for (Parameter* parameter : model.parameters()) {
    if (parameter->partial_over) parameter->partial_over->all_reduce(parameter->grad);
  }

  const Tensor whole_hidden = parallel.enter(hidden), whole_dhidden = parallel.enter(dhidden);
  if (parallel.rank() == 0) {
    Tensor scalar = Tensor::empty({1}, DType::kF64);
    scalar.data<double>()[0] = loss;
    result.put("loss", scalar);
    result.put("hidden", whole_hidden.clone());
    result.put("dhidden", whole_dhidden.clone());
  }
  communicator.barrier();
  for (Parameter* parameter : model.parameters()) {
    if (parameter->owner) result.put_shard(*parameter, parameter->grad);
  }
  communicator.barrier();
}

}  // namespace polyhead::testing
