#include "optim/optimizer.h"

#include "framework/random.h"
#include "optim/segment_runs.h"

namespace polyhead {

AdamW::AdamW(ParameterStore& store, const ops::AdamwOptions& options, DType moments,
             std::uint64_t seed)
    : store_(store),
      options_(options),
      seed_(seed),
      first_moment_(store.make_state(moments)),
      second_moment_(store.make_state(moments)),
      scalars_(Tensor::zeros({ops::kAdamwScalars}, DType::kF64, store.values().device())) {}

void AdamW::begin_update(double learning_rate) {
  scalars_.copy_from(ops::adamw_scalars(options_, learning_rate, ++updates_));
}

void AdamW::finish_update(const Tensor& gradient_scale) {
  scalars_.row_slice(ops::kGradientScale, ops::kGradientScale + 1).copy_from(gradient_scale);
  if (first_moment_.dtype() == store_.masters().dtype()) {
    for (const auto& run :
         segment_runs_in_shard(store_, [](const Parameter& p) { return p.decays; })) {
      update({run.begin, run.end}, run.property, {});
    }
  } else {
    // Each parameter draws from a stream of its own.
    for (const Segment& segment : store_.segments()) {
      const Parameter& parameter = *segment.parameter;
      const FlatRange part = overlap({segment.begin, segment.begin + segment.size}, store_.shard());
      if (part.size() == 0) continue;
      update(part, parameter.decays,
             {.seed = seed_,
              .stream = stream_id(parameter.name),
              .slice = slice_index(parameter),
              .begin = part.begin - segment.begin});
    }
  }
  store_.gather_values();
}

void AdamW::update(const FlatRange& range, bool decays, const ops::MomentRounding& rounding) {
  const std::int64_t start = store_.shard().begin;
  const auto state_of = [&](const Tensor& shard) {
    return shard.row_slice(range.begin - start, range.end - start);
  };
  Tensor value = state_of(store_.masters());
  Tensor rounded;
  if (store_.has_masters()) rounded = store_.values().row_slice(range.begin, range.end);
  Tensor first = state_of(first_moment_);
  Tensor second = state_of(second_moment_);
  ops::AdamwOptions options = options_;
  if (!decays) options.weight_decay = 0;
  options.rounding = rounding;
  ops::adamw(store_.grads(range), options, scalars_, value, first, second, rounded);
}

}  // namespace polyhead
