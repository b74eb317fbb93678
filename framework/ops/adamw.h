// AdamW (Loshchilov and Hutter 2019) with decoupled weight decay, on flat memory.
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops {

struct AdamwStep {
  double learning_rate = 0;
  double beta1 = 0.9;
  double beta2 = 0.95;
  double epsilon = 1e-8;
  double weight_decay = 0;
  double gradient_scale = 1;  // the clipping factor
  std::int64_t step = 1;      // counts from 1; bias correction
};

//   g = gradient_scale * grad;  m = b1 m + (1 - b1) g;  v = b2 v + (1 - b2) g^2
//   value -= lr (m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + epsilon) + weight_decay * value)
// All four tensors have the same size and are updated in one pass: 28 bytes of traffic per f32
// parameter.
void adamw(const Tensor& grad, const AdamwStep& step, Tensor& value, Tensor& first_moment,
           Tensor& second_moment);

}  // namespace polyhead::ops
