#include "framework/ops/adamw.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

constexpr double kTolerance[] = {1e-14, 1e-6};  // f64, f32

TEST(Adamw, FollowsTheFormulaOverSteps) {
  constexpr std::int64_t kSize = 1003;
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    Tensor value = testing::random_tensor({kSize}, dtype, "value");
    Tensor m = testing::filled({kSize}, dtype, 0), v = testing::filled({kSize}, dtype, 0);
    std::vector<double> value_wanted(kSize), m_wanted(kSize), v_wanted(kSize);
    for (std::size_t i = 0; i < kSize; ++i) {
      value_wanted[i] = testing::at(value, 0, static_cast<std::int64_t>(i));
    }
    AdamwStep step{.learning_rate = 0.01, .weight_decay = 0.1, .gradient_scale = 0.3};
    for (step.step = 1; step.step <= 5; ++step.step) {
      const Tensor grad = testing::random_tensor({kSize}, dtype, fmt::format("grad {}", step.step));
      adamw(grad, step, value, m, v);
      const auto t = static_cast<double>(step.step);
      for (std::size_t i = 0; i < kSize; ++i) {
        const double g = 0.3 * testing::at(grad, 0, static_cast<std::int64_t>(i));
        m_wanted[i] = step.beta1 * m_wanted[i] + (1 - step.beta1) * g;
        v_wanted[i] = step.beta2 * v_wanted[i] + (1 - step.beta2) * g * g;
        const double m_hat = m_wanted[i] / (1 - std::pow(step.beta1, t));
        const double v_hat = v_wanted[i] / (1 - std::pow(step.beta2, t));
        value_wanted[i] -= step.learning_rate * (m_hat / (std::sqrt(v_hat) + step.epsilon) +
                                                 step.weight_decay * value_wanted[i]);
      }
    }
    const auto expect_close = [&](const Tensor& got, const std::vector<double>& wanted) {
      const Tensor want = testing::reference(
          got, [&](std::int64_t, std::int64_t i) { return wanted[static_cast<std::size_t>(i)]; });
      EXPECT_LE(testing::relative_error(got, want), kTolerance[static_cast<int>(dtype)]);
    };
    expect_close(value, value_wanted);
    expect_close(m, m_wanted);
    expect_close(v, v_wanted);
  }
}

TEST(Adamw, ZeroGradientsOfFreshMomentsOnlyDecay) {
  Tensor value = testing::filled({5}, DType::kF32, 2), m = testing::filled({5}, DType::kF32, 0);
  Tensor v = m.clone();
  const AdamwStep step{.learning_rate = 0.5, .weight_decay = 0.25};
  adamw(testing::filled({5}, DType::kF32, 0), step, value, m, v);
  EXPECT_EQ(testing::at(value, 0, 4), 1.75);
}

TEST(Adamw, BitsDoNotDependOnThreads) {
  const Tensor grad = testing::random_tensor({40003}, DType::kF32, "grad");
  testing::expect_same_with_any_threads([&] {
    Tensor value = testing::random_tensor({40003}, DType::kF32, "value");
    Tensor m = testing::filled({40003}, DType::kF32, 0.1),
           v = testing::filled({40003}, DType::kF32, 0.2);
    adamw(grad, AdamwStep{.learning_rate = 0.01, .step = 3}, value, m, v);
    return std::vector<Tensor>{value, m, v};
  });
}

TEST(Adamw, RefusesStridedMemoryAndStepZero) {
  Tensor x = Tensor::zeros({4, 4}, DType::kF32), slice = x.column_slice(0, 2);
  Tensor m = Tensor::zeros({4, 2}, DType::kF32);
  EXPECT_THROW(adamw(m, AdamwStep{}, slice, m, m), std::logic_error);
  EXPECT_THROW(adamw(m, AdamwStep{.step = 0}, m, m, m), std::logic_error);
}

}  // namespace
}  // namespace polyhead::ops
