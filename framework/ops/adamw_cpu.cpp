#include <cmath>

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"
#include "framework/ops/parallel.h"
#include "framework/ops/simd.h"

namespace polyhead::ops::kernel {

using simd::Vector;

template <>
void Adamw<Device::kCpu>::update(const Tensor& grad, const AdamwOptions& options,
                                 const Tensor& scalars, Tensor& value, Tensor& first_moment,
                                 Tensor& second_moment, Tensor&) {
  const double* const scalar = scalars.data<double>();
  if (std::isnan(scalar[kGradientScale])) return;
  dispatch_cpu_float(value.dtype(), [&]<class T>() {
    const T* gradients = grad.data<T>();
    T *values = value.data<T>(), *means = first_moment.data<T>(),
      *squares = second_moment.data<T>();
    const auto broadcast = [](double number) { return Vector<T>(static_cast<T>(number)); };
    const Vector<T> gradient_scale = broadcast(scalar[kGradientScale]);
    const Vector<T> beta1 = broadcast(options.beta1), rest1 = broadcast(1 - options.beta1);
    const Vector<T> beta2 = broadcast(options.beta2), rest2 = broadcast(1 - options.beta2);
    const Vector<T> epsilon = broadcast(options.epsilon);
    const Vector<T> rate = broadcast(scalar[kLearningRate] * scalar[kFirstCorrection]);
    const Vector<T> root = broadcast(std::sqrt(scalar[kSecondCorrection]));
    const Vector<T> kept = broadcast(1 - scalar[kLearningRate] * options.weight_decay);
    parallel_runs(1, value.numel(), [&](std::int64_t, std::int64_t begin, std::int64_t end) {
      simd::for_each<T>(end - begin, [&](std::int64_t run_offset, auto lanes) {
        const std::int64_t i = begin + run_offset;
        const Vector<T> g = simd::load(gradients + i, lanes) * gradient_scale;
        const Vector<T> m = beta1 * simd::load(means + i, lanes) + rest1 * g;
        const Vector<T> v = beta2 * simd::load(squares + i, lanes) + rest2 * g * g;
        const Vector<T> change = rate * m / (xsimd::sqrt(v) * root + epsilon);
        simd::store(m, means + i, lanes);
        simd::store(v, squares + i, lanes);
        simd::store(kept * simd::load(values + i, lanes) - change, values + i, lanes);
      });
    });
  });
}

}  // namespace polyhead::ops::kernel
