#include "framework/ops/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

constexpr double kTolerance[] = {1e-14, 1e-6};  // f64, f32

Tensor no_rounding;  // the CPU's values need no second form

Tensor scalars_of(const AdamwOptions& options, double learning_rate, std::int64_t update,
                  double gradient_scale) {
  Tensor scalars = adamw_scalars(options, learning_rate, update);
  scalars.data<double>()[kGradientScale] = gradient_scale;
  return scalars;
}

TEST(Adamw, FollowsTheFormulaOverSteps) {
  constexpr std::int64_t kSize = 1003;
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    Tensor value = testing::random_tensor({kSize}, dtype, "value");
    Tensor m = testing::filled({kSize}, dtype, 0), v = testing::filled({kSize}, dtype, 0);
    std::vector<double> value_wanted(kSize), m_wanted(kSize), v_wanted(kSize);
    for (std::size_t i = 0; i < kSize; ++i) {
      value_wanted[i] = testing::at(value, 0, static_cast<std::int64_t>(i));
    }
    constexpr double kRate = 0.01, kScale = 0.3;
    const AdamwOptions options{.weight_decay = 0.1};
    for (std::int64_t update = 1; update <= 5; ++update) {
      const Tensor grad = testing::random_tensor({kSize}, dtype, fmt::format("grad {}", update));
      adamw(grad, options, scalars_of(options, kRate, update, kScale), value, m, v, no_rounding);
      const auto t = static_cast<double>(update);
      for (std::size_t i = 0; i < kSize; ++i) {
        const double g = kScale * testing::at(grad, 0, static_cast<std::int64_t>(i));
        m_wanted[i] = options.beta1 * m_wanted[i] + (1 - options.beta1) * g;
        v_wanted[i] = options.beta2 * v_wanted[i] + (1 - options.beta2) * g * g;
        const double m_hat = m_wanted[i] / (1 - std::pow(options.beta1, t));
        const double v_hat = v_wanted[i] / (1 - std::pow(options.beta2, t));
        value_wanted[i] -= kRate * (m_hat / (std::sqrt(v_hat) + options.epsilon) +
                                    options.weight_decay * value_wanted[i]);
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
  const AdamwOptions options{.weight_decay = 0.25};
  adamw(testing::filled({5}, DType::kF32, 0), options, adamw_scalars(options, 0.5, 1), value, m, v,
        no_rounding);
  EXPECT_EQ(testing::at(value, 0, 4), 1.75);
}

TEST(Adamw, BitsDoNotDependOnThreads) {
  const Tensor grad = testing::random_tensor({40003}, DType::kF32, "grad");
  testing::expect_same_with_any_threads([&] {
    Tensor value = testing::random_tensor({40003}, DType::kF32, "value");
    Tensor m = testing::filled({40003}, DType::kF32, 0.1),
           v = testing::filled({40003}, DType::kF32, 0.2);
    adamw(grad, {}, adamw_scalars({}, 0.01, 3), value, m, v, no_rounding);
    return std::vector<Tensor>{value, m, v};
  });
}

TEST(Adamw, ANanScaleChangesNothing) {
  const auto filled = [](double number) { return testing::filled({7}, DType::kF32, number); };
  Tensor value = filled(2), m = filled(0.5), v = filled(0.25);
  const AdamwOptions options{.weight_decay = 0.25};
  constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
  adamw(filled(1), options, scalars_of(options, 0.5, 3, kNan), value, m, v, no_rounding);
  EXPECT_TRUE(testing::bitwise_equal(value, filled(2)));
  EXPECT_TRUE(testing::bitwise_equal(m, filled(0.5)));
  EXPECT_TRUE(testing::bitwise_equal(v, filled(0.25)));
}

TEST(Adamw, RefusesStridedMemoryScalarsOfOtherSizesAndUpdateZero) {
  Tensor x = Tensor::zeros({4, 4}, DType::kF32), slice = x.column_slice(0, 2);
  Tensor m = Tensor::zeros({4, 2}, DType::kF32);
  const Tensor scalars = adamw_scalars({}, 0.1, 1);
  EXPECT_THROW(adamw(m, {}, scalars, slice, m, m, no_rounding), std::logic_error);
  EXPECT_THROW(adamw(m, {}, scalars.row_slice(0, 2), m, m, m, no_rounding), std::logic_error);
  EXPECT_THROW(adamw_scalars({}, 0.1, 0), std::logic_error);
}

}  // namespace
}  // namespace polyhead::ops
