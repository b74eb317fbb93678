#include "optim/optimizer.h"

#include "framework/ops/adamw.h"
#include "optim/segment_runs.h"

namespace polyhead {

AdamW::AdamW(ParameterStore& store, const AdamWOptions& options)
    : store_(store),
      options_(options),
      first_moment_(store.make_state()),
      second_moment_(store.make_state()) {}

void AdamW::step(double learning_rate, double gradient_scale) {
  ++updates_;
  for (const auto& run : segment_runs(store_, [](const Parameter& p) { return p.decays; })) {
    Tensor value = store_.values().row_slice(run.begin, run.end);
    Tensor first = first_moment_.row_slice(run.begin, run.end);
    Tensor second = second_moment_.row_slice(run.begin, run.end);
    ops::adamw(store_.grads().row_slice(run.begin, run.end),
               {.learning_rate = learning_rate,
                .beta1 = options_.beta1,
                .beta2 = options_.beta2,
                .epsilon = options_.epsilon,
                .weight_decay = run.property ? options_.weight_decay : 0,
                .gradient_scale = gradient_scale,
                .step = updates_},
               value, first, second);
  }
}

}  // namespace polyhead
