// AdamW over the flat buffers of a ParameterStore. Memory: two more buffers of the size of the
// store's shard of the optimizer state, in the dtype of the masters or in bf16.
#pragma once

#include "framework/ops/adamw.h"
#include "framework/parameters/parameter_store.h"

namespace polyhead {

class AdamW {
 public:
  // Moments start at zero. `store` must outlive the optimizer. Weight decay applies to the
  // parameters that decay.
  AdamW(ParameterStore& store, const ops::AdamwOptions& options)
      : AdamW(store, options, store.masters().dtype(), /*seed=*/0) {}
  // ... with moments in the dtype of the masters, or in bf16 beside f32: then `seed` says how they
  // are rounded, the same on any layout.
  AdamW(ParameterStore& store, const ops::AdamwOptions& options, DType moments, std::uint64_t seed);

  // One update of all values from the gradients times `gradient_scale` (1) f64, the clip factor, in
  // two halves. The first tells the device the numbers of the next update; the second, which can be
  // recorded and played for every update, makes it. Where the state is sharded each rank updates
  // its part, then receives those of the others.
  void begin_update(double learning_rate);
  void finish_update(const Tensor& gradient_scale);
  void step(double learning_rate, const Tensor& gradient_scale) {
    begin_update(learning_rate);
    finish_update(gradient_scale);
  }

  // What a checkpoint holds, beside the values: the moments, laid out like them, and how many
  // updates there were, for the correction of their bias.
  const Tensor& first_moment() const { return first_moment_; }  // (shard size)
  Tensor& first_moment() { return first_moment_; }
  const Tensor& second_moment() const { return second_moment_; }  // (shard size)
  Tensor& second_moment() { return second_moment_; }
  std::int64_t updates() const { return updates_; }
  void set_updates(std::int64_t updates) { updates_ = updates; }

 private:
  // One pass over a range of the flat buffers, which lies in this rank's shard.
  void update(const FlatRange& range, bool decays, const ops::MomentRounding& rounding);

  ParameterStore& store_;
  ops::AdamwOptions options_;
  std::uint64_t seed_;
  Tensor first_moment_;   // (shard size)
  Tensor second_moment_;  // (shard size)
  Tensor scalars_;        // of the next update
  std::int64_t updates_ = 0;
};

}  // namespace polyhead
