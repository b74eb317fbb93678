// AdamW (Loshchilov and Hutter 2019) with decoupled weight decay, on flat memory.
#pragma once

#include "framework/ops/moment_rounding.h"
#include "framework/tensor.h"

namespace polyhead::ops {

struct AdamwOptions {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;
  MomentRounding rounding = {};  // moments in bf16 only
};

// What changes from update to update lies on the tensors' device, (5) f64, so that a recorded step
// can be played again with other numbers.
enum AdamwScalar {
  kLearningRate,
  kFirstCorrection,   // 1 / (1 - beta1^t) for update t = 1, 2, ...
  kSecondCorrection,  // 1 / (1 - beta2^t)
  kGradientScale,     // the clipping factor; NaN: this update is skipped
  kUpdate,            // t
  kAdamwScalars
};
// The scalars of update t on the host, with gradient scale 1.
Tensor adamw_scalars(const AdamwOptions& options, double learning_rate, std::int64_t update);

//   g = gradient_scale * grad;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   value -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + weight_decay * value)
// grad, value and the moments have the same size and dtype and are updated in one pass: 28 bytes of
// traffic per f32 parameter. Beside f32 values the moments may be bf16, rounded stochastically
// after the value has used them: 20 bytes. `rounded`, unless empty, receives the new value in bf16
// (CUDA only: the weights that the model computes with): 2 bytes more.
void adamw(const Tensor& grad, const AdamwOptions& options, const Tensor& scalars, Tensor& value,
           Tensor& first_moment, Tensor& second_moment, Tensor& rounded);

}  // namespace polyhead::ops
