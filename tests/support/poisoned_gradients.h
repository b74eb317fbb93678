// Gradients as no step leaves them: who reads what a sum held before it began turns all into NaN.
#pragma once

#include <algorithm>
#include <limits>

#include "framework/dispatch.h"
#include "framework/parameters/parameter_store.h"

namespace polyhead::testing {

// Begins new sums of gradients, over numbers none of which may be read.
inline void zero_poisoned_grads(ParameterStore& store) {
  for (const Segment& segment : store.segments()) {
    Tensor& grad = segment.parameter->grad;
    Tensor poison = Tensor::empty(grad.shape(), grad.dtype());
    dispatch_cpu_float(poison.dtype(), [&]<class T>() {
      std::fill_n(poison.data<T>(), poison.numel(), std::numeric_limits<T>::quiet_NaN());
    });
    grad.copy_from(poison);
  }
  store.zero_grads();
}

}  // namespace polyhead::testing
