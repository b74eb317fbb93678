#include "framework/ops/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/gradcheck.h"
#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

using testing::at;
using testing::random_tensor;
using testing::strided_poisoned;
using testing::strided_random;

constexpr double kTolerance[] = {1e-14, 1e-6};  // f64, f32

class Elementwise : public ::testing::TestWithParam<DType> {
 protected:
  DType dtype_ = GetParam();
  double tolerance_ = kTolerance[static_cast<int>(dtype_)];
};
INSTANTIATE_TEST_SUITE_P(DTypes, Elementwise, ::testing::Values(DType::kF64, DType::kF32));

TEST_P(Elementwise, FillScaleAndAdd) {
  Tensor x = strided_poisoned(23, 61, dtype_);
  fill(2.5, x);
  EXPECT_EQ(testing::relative_error(x, testing::filled({23, 61}, dtype_, 2.5)), 0);
  scale(-2, x);
  EXPECT_EQ(testing::relative_error(x, testing::filled({23, 61}, dtype_, -5)), 0);

  const Tensor a = strided_random(23, 61, dtype_, "a"), b = random_tensor({23, 61}, dtype_, "b");
  Tensor y = strided_poisoned(23, 61, dtype_);
  add(a, b, y);
  const Tensor sum = testing::reference(
      y, [&](std::int64_t row, std::int64_t col) { return at(a, row, col) + at(b, row, col); });
  EXPECT_LE(testing::relative_error(y, sum), tolerance_);
  Tensor in_place = a.clone();
  add_to(b, in_place);
  EXPECT_TRUE(testing::bitwise_equal(in_place, y));
}

TEST_P(Elementwise, WritesNothingOutsideOfAColumnSlice) {
  Tensor wide = testing::filled({9, 40}, dtype_, 7);
  Tensor x = wide.column_slice(3, 24);
  fill(1, x);
  scale(2, x);
  softcap_forward(5, x);
  for (std::int64_t row = 0; row < 9; ++row) {
    for (std::int64_t col = 0; col < 40; ++col) {
      if (col < 3 || col >= 24) {
        ASSERT_EQ(at(wide, row, col), 7);
      }
    }
  }
}

TEST_P(Elementwise, Bias) {
  const Tensor bias = random_tensor({61}, dtype_, "bias"),
               x = random_tensor({203, 61}, dtype_, "x");
  Tensor y = strided_poisoned(203, 61, dtype_);
  y.copy_from(x);
  add_bias(bias, y);
  const Tensor sum = testing::reference(
      y, [&](std::int64_t row, std::int64_t col) { return at(x, row, col) + at(bias, 0, col); });
  EXPECT_LE(testing::relative_error(y, sum), tolerance_);

  const Tensor dy = strided_random(203, 61, dtype_, "dy"),
               begun = random_tensor({61}, dtype_, "begun");
  Tensor dbias = begun.clone();
  bias_backward(dy, dbias);
  const Tensor column_sums = testing::reference(dbias, [&](std::int64_t, std::int64_t col) {
    double total = at(begun, 0, col);
    for (std::int64_t row = 0; row < dy.rows(); ++row) total += at(dy, row, col);
    return total;
  });
  EXPECT_LE(testing::relative_error(dbias, column_sums), tolerance_);
}

TEST_P(Elementwise, Softcap) {
  Tensor y = strided_random(13, 29, dtype_, "x", 20.0);
  const Tensor x = y.clone();
  softcap_forward(30, y);
  const Tensor expected = testing::reference(
      y, [&](std::int64_t row, std::int64_t col) { return 30 * std::tanh(at(x, row, col) / 30); });
  EXPECT_LE(testing::relative_error(y, expected), tolerance_);
  Tensor extreme = testing::filled({1, 3}, dtype_, 1e6);
  softcap_forward(30, extreme);
  EXPECT_EQ(at(extreme, 0, 0), 30);
}

TEST(Softcap, Gradients) {
  const Tensor x = random_tensor({5, 19}, DType::kF64, "x", 2.0);
  const Tensor dy = random_tensor({5, 19}, DType::kF64, "dy");
  Tensor y = x.clone(), dx = dy.clone();
  softcap_forward(1.7, y);
  softcap_backward(y, 1.7, dx);
  testing::GradientCheck check;
  check.add("x", x, dx);
  check.expect_close([&] {
    Tensor capped = x.clone();
    softcap_forward(1.7, capped);
    return testing::weighted_sum(capped, dy);
  });
}

Tensor scalar(double value) {
  return testing::filled({1}, DType::kF64, value);
}

double value_of(const Tensor& scalar) {
  return scalar.data<double>()[0];
}

TEST_P(Elementwise, SumsAreAdded) {
  for (const Tensor& x :
       {strided_random(31, 77, dtype_, "x"), random_tensor({10007}, dtype_, "flat")}) {
    double sum = 0, sum_squares = 0;
    for (std::int64_t row = 0; row < x.rows(); ++row) {
      for (std::int64_t col = 0; col < x.cols(); ++col) {
        sum += at(x, row, col);
        sum_squares += std::pow(at(x, row, col), 2);
      }
    }
    Tensor total = scalar(3), squares = scalar(5);
    add_sum(-0.25, x, total);
    EXPECT_NEAR(value_of(total), 3 - 0.25 * sum, 1e-13 * sum_squares);
    add_sum_squares(x, squares);
    EXPECT_NEAR(value_of(squares), 5 + sum_squares, 1e-13 * sum_squares);
  }
  // Squares beyond the range of f32.
  Tensor squares = scalar(0);
  add_sum_squares(testing::filled({2}, dtype_, std::ldexp(1, 100)), squares);
  EXPECT_DOUBLE_EQ(value_of(squares), std::ldexp(1, 201));
}

TEST_P(Elementwise, SumsKeepWhatIsNotFinite) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    Tensor x = random_tensor({77}, dtype_, "x"), sum = scalar(0), squares = scalar(0);
    dispatch_cpu_float(dtype_, [&]<class T>() { x.data<T>()[70] = static_cast<T>(bad); });
    add_sum(1, x, sum);
    add_sum_squares(x, squares);
    EXPECT_FALSE(std::isfinite(value_of(sum)));
    EXPECT_FALSE(std::isfinite(value_of(squares)));
  }
}

TEST(ClipScale, LimitsTheNorm) {
  const auto clip = [](double squares, double max_norm) {
    Tensor scale = scalar(-1);
    clip_scale(scalar(squares), max_norm, scale);
    return value_of(scale);
  };
  EXPECT_DOUBLE_EQ(clip(16, 1), 1 / (4 + 1e-6));
  EXPECT_EQ(clip(16, 5), 1);
  EXPECT_EQ(clip(16, 0), 1);  // no limit
  EXPECT_EQ(clip(0, 1), 1);
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  for (const double bad : {kInfinity, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_TRUE(std::isnan(clip(bad, 1))) << bad;
    EXPECT_TRUE(std::isnan(clip(bad, 0))) << bad;
  }
}

TEST_P(Elementwise, AllFinite) {
  for (const double bad :
       {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
        -std::numeric_limits<double>::infinity()}) {
    for (std::int64_t place = 0; place < 77; ++place) {
      Tensor x = random_tensor({77}, dtype_, "x");
      EXPECT_TRUE(all_finite(x));
      dispatch_cpu_float(dtype_, [&]<class T>() { x.data<T>()[place] = static_cast<T>(bad); });
      EXPECT_FALSE(all_finite(x)) << bad << " at " << place;
    }
  }
  EXPECT_TRUE(all_finite(strided_random(5, 20, dtype_, "slice")));
}

TEST(ElementwiseThreads, BitsDoNotDependOnThem) {
  const Tensor dy = random_tensor({1003, 77}, DType::kF32, "dy");
  testing::expect_same_with_any_threads([&] {
    Tensor dbias = Tensor::zeros({77}, DType::kF32), sum = scalar(0), squares = scalar(0);
    bias_backward(dy, dbias);
    add_sum(1, dy, sum);
    add_sum_squares(dy, squares);
    return std::vector<Tensor>{dbias, sum, squares};
  });
}

TEST(ElementwiseShapes, AreChecked) {
  const Tensor a = Tensor::zeros({3, 4}, DType::kF32);
  Tensor y = Tensor::zeros({4, 3}, DType::kF32), bias = Tensor::zeros({5}, DType::kF32);
  EXPECT_THROW(add(a, a, y), std::logic_error);
  EXPECT_THROW(add_bias(bias, y), std::logic_error);
}

}  // namespace
}  // namespace polyhead::ops
