#include "framework/ops/adamw.h"

#include <cmath>

#include "framework/dispatch.h"
#include "framework/ops/checks.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {

Tensor adamw_scalars(const AdamwOptions& options, double learning_rate, std::int64_t update) {
  POLYHEAD_CHECK(update >= 1, "adamw: update {}, but updates count from 1", update);
  const auto correction = [&](double beta) {
    return 1 / (1 - std::pow(beta, static_cast<double>(update)));
  };
  Tensor scalars = Tensor::empty({kAdamwScalars}, DType::kF64);
  double* const values = scalars.data<double>();
  values[kLearningRate] = learning_rate;
  values[kFirstCorrection] = correction(options.beta1);
  values[kSecondCorrection] = correction(options.beta2);
  values[kGradientScale] = 1;
  values[kUpdate] = static_cast<double>(update);
  return scalars;
}

void adamw(const Tensor& grad, const AdamwOptions& options, const Tensor& scalars, Tensor& value,
           Tensor& first_moment, Tensor& second_moment, Tensor& rounded) {
  check_matrix("adamw: scalars", scalars, 1, kAdamwScalars, DType::kF64, value.device());
  check_same("adamw: grad", grad, value);
  const DType moments = first_moment.dtype();
  POLYHEAD_CHECK(
      moments == value.dtype() || (moments == DType::kBf16 && value.dtype() == DType::kF32),
      "adamw: moments in {} beside values in {}", name_of(moments), name_of(value.dtype()));
  for (const Tensor* moment : {&first_moment, &second_moment}) {
    check_matrix("adamw: moment", *moment, value.rows(), value.cols(), moments, value.device());
  }
  POLYHEAD_CHECK(grad.is_contiguous() && value.is_contiguous() && first_moment.is_contiguous() &&
                     second_moment.is_contiguous(),
                 "adamw: memory is not flat");
  if (rounded) {
    check_matrix("adamw: rounded", rounded, value.rows(), value.cols(), DType::kBf16,
                 Device::kCuda);
  }
  dispatch(value.device(), [&]<Device D>() {
    kernel::Adamw<D>::update(grad, options, scalars, value, first_moment, second_moment, rounded);
  });
}

}  // namespace polyhead::ops
