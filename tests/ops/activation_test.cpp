#include "framework/ops/activation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>

#include "tests/support/gradcheck.h"
#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

using testing::at;

constexpr double kTolerance[] = {1e-14, 3e-7};  // f64, f32
constexpr Activation kAll[] = {Activation::kSwiglu, Activation::kGeglu, Activation::kGeluTanh,
                               Activation::kGelu};

double curve(Activation activation, double x) {
  switch (activation) {
    case Activation::kSwiglu:
      return x / (1 + std::exp(-x));
    case Activation::kGeglu:
    case Activation::kGeluTanh:
      return 0.5 * x *
             (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
    case Activation::kGelu:
      return 0.5 * x * (1 + std::erf(x / std::numbers::sqrt2));
  }
  return 0;
}

std::int64_t input_width(Activation activation, std::int64_t width) {
  return is_gated(activation) ? 2 * width : width;
}

TEST(Activation, EqualsTheDefinition) {
  constexpr std::int64_t kRows = 13, kWidth = 53;
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    for (const Activation activation : kAll) {
      const Tensor x =
          testing::strided_random(kRows, input_width(activation, kWidth), dtype, "x", 3.0);
      Tensor y = testing::strided_poisoned(kRows, kWidth, dtype);
      activation_forward(x, activation, y);
      const Tensor expected = testing::reference(y, [&](std::int64_t row, std::int64_t column) {
        const double up = is_gated(activation) ? at(x, row, kWidth + column) : 1;
        return curve(activation, at(x, row, column)) * up;
      });
      EXPECT_LE(testing::relative_error(y, expected), kTolerance[static_cast<int>(dtype)])
          << static_cast<int>(activation) << " " << name_of(dtype);
    }
  }
}

TEST(Activation, Gradients) {
  constexpr std::int64_t kRows = 5, kWidth = 19;
  for (const Activation activation : kAll) {
    const std::int64_t width = input_width(activation, kWidth);
    const Tensor x = testing::strided_random(kRows, width, DType::kF64, "x");
    const Tensor dy = testing::strided_random(kRows, kWidth, DType::kF64, "dy");
    Tensor dx = testing::strided_poisoned(kRows, width, DType::kF64);
    activation_backward(dy, x, activation, dx);
    testing::GradientCheck check;
    check.add("x", x, dx);
    Tensor y = Tensor::empty({kRows, kWidth}, DType::kF64);
    check.expect_close([&] {
      activation_forward(x, activation, y);
      return testing::weighted_sum(y, dy);
    });

    Tensor in_place = x.clone();
    activation_backward(dy, in_place, activation, in_place);
    EXPECT_TRUE(testing::bitwise_equal(in_place, dx));
  }
}

// Large arguments saturate; a NaN passes through.
TEST(Activation, SurvivesExtremes) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    for (const Activation activation : kAll) {
      const std::int64_t width = is_gated(activation) ? 2 : 1;
      for (const double magnitude : {30.0, 100.0, 1000.0, 1e6}) {
        Tensor x = testing::filled({2, width}, dtype, 1);
        dispatch_cpu_float(dtype, [&]<class T>() {
          x.data<T>()[0] = static_cast<T>(magnitude);
          x.data<T>()[width] = static_cast<T>(-magnitude);
        });
        Tensor y = testing::poisoned({2, 1}, dtype), dx = testing::poisoned({2, width}, dtype);
        activation_forward(x, activation, y);
        activation_backward(testing::filled({2, 1}, dtype, 1), x, activation, dx);
        EXPECT_NEAR(at(y, 0, 0), magnitude, 1e-11);
        EXPECT_NEAR(at(y, 1, 0), 0, 1e-11);
        EXPECT_NEAR(at(dx, 0, 0), 1, 1e-11);
        EXPECT_NEAR(at(dx, 1, 0), 0, 1e-11);
      }
      const Tensor nan = testing::poisoned({1, width}, dtype);
      Tensor y = testing::filled({1, 1}, dtype, 0);
      activation_forward(nan, activation, y);
      EXPECT_TRUE(std::isnan(at(y, 0, 0))) << static_cast<int>(activation);
    }
  }
}

TEST(Activation, BitsDoNotDependOnThreads) {
  const Tensor x = testing::random_tensor({300, 2 * 97}, DType::kF32, "x");
  const Tensor dy = testing::random_tensor({300, 97}, DType::kF32, "dy");
  testing::expect_same_with_any_threads([&] {
    Tensor y = Tensor::empty_like(dy), dx = Tensor::empty_like(x);
    activation_forward(x, Activation::kSwiglu, y);
    activation_backward(dy, x, Activation::kSwiglu, dx);
    return std::vector<Tensor>{y, dx};
  });
}

TEST(Activation, RefusesWrongShapes) {
  const Tensor x = Tensor::zeros({3, 4}, DType::kF32);
  Tensor y = Tensor::zeros({3, 4}, DType::kF32);
  EXPECT_THROW(activation_forward(x, Activation::kSwiglu, y), std::logic_error);
}

}  // namespace
}  // namespace polyhead::ops
