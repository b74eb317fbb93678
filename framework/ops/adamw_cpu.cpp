#include <algorithm>
#include <array>
#include <cmath>

#include "framework/bf16.h"
#include "framework/dispatch.h"
#include "framework/ops/kernels.h"
#include "framework/ops/parallel.h"
#include "framework/ops/simd.h"

namespace polyhead::ops::kernel {
namespace {

using simd::Vector;

template <class T>
void update_run(const AdamwOptions& options, const double* scalar, const T* gradients, T* values,
                T* means, T* squares, std::int64_t count) {
  const auto broadcast = [](double number) { return Vector<T>(static_cast<T>(number)); };
  const Vector<T> gradient_scale = broadcast(scalar[kGradientScale]);
  const Vector<T> beta1 = broadcast(options.beta1), rest1 = broadcast(1 - options.beta1);
  const Vector<T> beta2 = broadcast(options.beta2), rest2 = broadcast(1 - options.beta2);
  const Vector<T> epsilon = broadcast(options.epsilon);
  const Vector<T> rate = broadcast(scalar[kLearningRate] * scalar[kFirstCorrection]);
  const Vector<T> root = broadcast(std::sqrt(scalar[kSecondCorrection]));
  const Vector<T> kept = broadcast(1 - scalar[kLearningRate] * options.weight_decay);
  simd::for_each<T>(count, [&](std::int64_t i, auto lanes) {
    const Vector<T> g = simd::load(gradients + i, lanes) * gradient_scale;
    const Vector<T> m = beta1 * simd::load(means + i, lanes) + rest1 * g;
    const Vector<T> v = beta2 * simd::load(squares + i, lanes) + rest2 * g * g;
    const Vector<T> change = rate * m / (xsimd::sqrt(v) * root + epsilon);
    simd::store(m, means + i, lanes);
    simd::store(v, squares + i, lanes);
    simd::store(kept * simd::load(values + i, lanes) - change, values + i, lanes);
  });
}

// The moments of elements [begin, begin + count).
void round_run(const MomentRounding& rounding, std::uint64_t update, std::int64_t begin,
               std::int64_t count, const float* means, const float* squares, Bf16* rounded_means,
               Bf16* rounded_squares) {
  std::int64_t block = -1;
  std::array<std::uint32_t, kRoundedTogether> words{};
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t index = rounding.index(begin + i);
    if (index / kRoundedTogether != block) {
      block = index / kRoundedTogether;
      words = rounding_words(rounding, update, block);
    }
    const std::uint32_t word = words[static_cast<std::size_t>(index % kRoundedTogether)];
    rounded_means[i] = to_bf16(stochastic_bf16(means[i], first_moment_bits(word)));
    rounded_squares[i] = to_bf16(stochastic_bf16(squares[i], second_moment_bits(word)));
  }
}

// By the instructions that update f32 moments: another instance of them may fuse other
// multiplications, in whole vectors than in the last elements, and then bits depend on the layout.
void update_rounded(const AdamwOptions& options, const double* scalar, const Tensor& grad,
                    Tensor& value, Tensor& first_moment, Tensor& second_moment) {
  const float* gradients = grad.data<float>();
  float* values = value.data<float>();
  Bf16 *means = first_moment.data<Bf16>(), *squares = second_moment.data<Bf16>();
  const auto update = static_cast<std::uint64_t>(scalar[kUpdate]);
  parallel_runs(1, value.numel(), [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    std::array<float, kRunElements> wide_means, wide_squares;
    std::transform(means + begin, means + end, wide_means.begin(), to_float);
    std::transform(squares + begin, squares + end, wide_squares.begin(), to_float);
    update_run(options, scalar, gradients + begin, values + begin, wide_means.data(),
               wide_squares.data(), end - begin);
    round_run(options.rounding, update, begin, end - begin, wide_means.data(), wide_squares.data(),
              means + begin, squares + begin);
  });
}

}  // namespace

template <>
void Adamw<Device::kCpu>::update(const Tensor& grad, const AdamwOptions& options,
                                 const Tensor& scalars, Tensor& value, Tensor& first_moment,
                                 Tensor& second_moment, Tensor&) {
  const double* const scalar = scalars.data<double>();
  if (std::isnan(scalar[kGradientScale])) return;
  if (first_moment.dtype() == DType::kBf16) {
    update_rounded(options, scalar, grad, value, first_moment, second_moment);
    return;
  }
  dispatch_cpu_float(value.dtype(), [&]<class T>() {
    const T* gradients = grad.data<T>();
    T *values = value.data<T>(), *means = first_moment.data<T>(),
      *squares = second_moment.data<T>();
    parallel_runs(1, value.numel(), [&](std::int64_t, std::int64_t begin, std::int64_t end) {
      update_run(options, scalar, gradients + begin, values + begin, means + begin, squares + begin,
                 end - begin);
    });
  });
}

}  // namespace polyhead::ops::kernel
