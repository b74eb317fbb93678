#include <cmath>

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"
#include "framework/ops/parallel.h"
#include "framework/ops/simd.h"

namespace polyhead::ops::kernel {

using simd::Vector;

template <>
void Adamw<Device::kCpu>::update(const Tensor& grad, const AdamwStep& step, Tensor& value,
                                 Tensor& first_moment, Tensor& second_moment) {
  dispatch_cpu_float(value.dtype(), [&]<class T>() {
    const T* gradients = grad.data<T>();
    T *values = value.data<T>(), *means = first_moment.data<T>(),
      *squares = second_moment.data<T>();
    const auto broadcast = [](double number) { return Vector<T>(static_cast<T>(number)); };
    const double t = static_cast<double>(step.step);
    const Vector<T> gradient_scale = broadcast(step.gradient_scale);
    const Vector<T> beta1 = broadcast(step.beta1), rest1 = broadcast(1 - step.beta1);
    const Vector<T> beta2 = broadcast(step.beta2), rest2 = broadcast(1 - step.beta2);
    const Vector<T> epsilon = broadcast(step.epsilon);
    const Vector<T> rate = broadcast(step.learning_rate / (1 - std::pow(step.beta1, t)));
    const Vector<T> root = broadcast(1 / std::sqrt(1 - std::pow(step.beta2, t)));
    const Vector<T> kept = broadcast(1 - step.learning_rate * step.weight_decay);
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
