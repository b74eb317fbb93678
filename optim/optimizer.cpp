#include "optim/optimizer.h"

#include "optim/segment_runs.h"

namespace polyhead {

AdamW::AdamW(ParameterStore& store, const ops::AdamwOptions& options)
    : store_(store),
      options_(options),
      first_moment_(store.make_state()),
      second_moment_(store.make_state()) {}

void AdamW::step(double learning_rate, const Tensor& gradient_scale) {
  ++updates_;
  const Tensor scalars =
      ops::adamw_scalars(options_, learning_rate, updates_).to(store_.values().device());
  scalars.row_slice(ops::kGradientScale, ops::kGradientScale + 1).copy_from(gradient_scale);
  for (const auto& run : segment_runs(store_, [](const Parameter& p) { return p.decays; })) {
    Tensor value = store_.masters().row_slice(run.begin, run.end);
    Tensor rounded;
    if (store_.has_masters()) rounded = store_.values().row_slice(run.begin, run.end);
    Tensor first = first_moment_.row_slice(run.begin, run.end);
    Tensor second = second_moment_.row_slice(run.begin, run.end);
    ops::AdamwOptions options = options_;
    if (!run.property) options.weight_decay = 0;
    ops::adamw(store_.grads().row_slice(run.begin, run.end), options, scalars, value, first, second,
               rounded);
  }
}

}  // namespace polyhead
