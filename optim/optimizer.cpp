#include "optim/optimizer.h"

#include "optim/segment_runs.h"

namespace polyhead {

AdamW::AdamW(ParameterStore& store, const ops::AdamwOptions& options)
    : store_(store),
      options_(options),
      first_moment_(store.make_state()),
      second_moment_(store.make_state()),
      scalars_(Tensor::zeros({ops::kAdamwScalars}, DType::kF64, store.values().device())) {}

void AdamW::begin_update(double learning_rate) {
  scalars_.copy_from(ops::adamw_scalars(options_, learning_rate, ++updates_));
}

void AdamW::finish_update(const Tensor& gradient_scale) {
  scalars_.row_slice(ops::kGradientScale, ops::kGradientScale + 1).copy_from(gradient_scale);
  const std::int64_t start = store_.shard().begin;
  for (const auto& run :
       segment_runs_in_shard(store_, [](const Parameter& p) { return p.decays; })) {
    const auto state_of = [&](const Tensor& shard) {
      return shard.row_slice(run.begin - start, run.end - start);
    };
    Tensor value = state_of(store_.masters());
    Tensor rounded;
    if (store_.has_masters()) rounded = store_.values().row_slice(run.begin, run.end);
    Tensor first = state_of(first_moment_);
    Tensor second = state_of(second_moment_);
    ops::AdamwOptions options = options_;
    if (!run.property) options.weight_decay = 0;
    ops::adamw(store_.grads().row_slice(run.begin, run.end), options, scalars_, value, first,
               second, rounded);
  }
  store_.gather_values();
}

}  // namespace polyhead
