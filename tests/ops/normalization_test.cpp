#include "framework/ops/normalization.h"

#include "framework/ops/elementwise.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/gradcheck.h"
#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

using testing::at;
using testing::random_tensor;
using testing::strided_poisoned;
using testing::strided_random;

constexpr double kEpsilon = 1e-5;
constexpr double kTolerance[] = {1e-14, 1e-6};  // f64, f32

struct Moments {
  double mean, rstd;
};

Moments moments_of(const Tensor& x, std::int64_t row, bool centered) {
  const auto columns = static_cast<double>(x.cols());
  double mean = 0, square = 0;
  for (std::int64_t i = 0; centered && i < x.cols(); ++i) mean += at(x, row, i) / columns;
  for (std::int64_t i = 0; i < x.cols(); ++i) square += std::pow(at(x, row, i) - mean, 2) / columns;
  return {mean, 1 / std::sqrt(square + kEpsilon)};
}

class Norms : public ::testing::TestWithParam<std::tuple<DType, std::int64_t>> {};

TEST_P(Norms, RmsNormEqualsTheDefinition) {
  const auto [dtype, columns] = GetParam();
  const Tensor x = strided_random(37, columns, dtype, "x");
  const Tensor weight = random_tensor({columns}, dtype, "weight");
  for (const NormWeight form : {NormWeight::kPlain, NormWeight::kOnePlus}) {
    Tensor y = strided_poisoned(37, columns, dtype), rstd = testing::poisoned({37}, dtype);
    rms_norm_forward(x, weight, form, kEpsilon, {}, y, rstd);
    const Tensor expected = testing::reference(x, [&](std::int64_t row, std::int64_t column) {
      const double plus = form == NormWeight::kOnePlus ? 1 : 0;
      return at(x, row, column) * moments_of(x, row, false).rstd * (at(weight, 0, column) + plus);
    });
    EXPECT_LE(testing::relative_error(y, expected), kTolerance[static_cast<int>(dtype)]);

    Tensor again = testing::poisoned({37, columns}, dtype);
    rms_norm_apply(x, weight, form, rstd, again);
    EXPECT_TRUE(testing::bitwise_equal(again, y));

    Tensor in_place = x.clone();
    rms_norm_forward(in_place, weight, form, kEpsilon, {}, in_place, rstd);
    EXPECT_TRUE(testing::bitwise_equal(in_place, y));
  }
}

TEST_P(Norms, LayerNormEqualsTheDefinition) {
  const auto [dtype, columns] = GetParam();
  const Tensor x = strided_random(37, columns, dtype, "x");
  const Tensor weight = random_tensor({columns}, dtype, "weight");
  const Tensor bias = random_tensor({columns}, dtype, "bias");
  Tensor y = strided_poisoned(37, columns, dtype), statistics = testing::poisoned({37, 2}, dtype);
  layer_norm_forward(x, weight, bias, kEpsilon, {}, y, statistics);
  const Tensor expected = testing::reference(x, [&](std::int64_t row, std::int64_t column) {
    const Moments moments = moments_of(x, row, true);
    return (at(x, row, column) - moments.mean) * moments.rstd * at(weight, 0, column) +
           at(bias, 0, column);
  });
  EXPECT_LE(testing::relative_error(y, expected), kTolerance[static_cast<int>(dtype)]);

  Tensor again = testing::poisoned({37, columns}, dtype);
  layer_norm_apply(x, weight, bias, statistics, again);
  EXPECT_TRUE(testing::bitwise_equal(again, y));
}

INSTANTIATE_TEST_SUITE_P(Widths, Norms,
                         ::testing::Combine(::testing::Values(DType::kF64, DType::kF32),
                                            ::testing::Values(5, 16, 67, 352)));

// Parameter gradients start from `begun` and are accumulated; its part is subtracted.
Tensor difference(const Tensor& sum, const Tensor& begun) {
  return testing::reference(sum, [&](std::int64_t row, std::int64_t col) {
    return at(sum, row, col) - at(begun, row, col);
  });
}

TEST(RmsNorm, Gradients) {
  const Tensor x = strided_random(7, 19, DType::kF64, "x");
  const Tensor weight = random_tensor({19}, DType::kF64, "weight");
  const Tensor dy = strided_random(7, 19, DType::kF64, "dy");
  for (const NormWeight form : {NormWeight::kPlain, NormWeight::kOnePlus}) {
    Tensor y = Tensor::empty({7, 19}, DType::kF64), rstd = Tensor::empty({7}, DType::kF64);
    const auto loss = [&] {
      rms_norm_forward(x, weight, form, kEpsilon, {}, y, rstd);
      return testing::weighted_sum(y, dy);
    };
    loss();
    Tensor dx = strided_poisoned(7, 19, DType::kF64);
    const Tensor begun = random_tensor({19}, DType::kF64, "begun");
    Tensor dweight = begun.clone();
    rms_norm_backward(dy, x, weight, form, rstd, {}, dx, dweight);
    testing::GradientCheck check;
    check.add("x", x, dx);
    check.add("weight", weight, difference(dweight, begun));
    check.expect_close(loss);

    loss();
    Tensor in_place = dy.clone();
    Tensor again = begun.clone();
    rms_norm_backward(in_place, x, weight, form, rstd, {}, in_place, again);
    EXPECT_TRUE(testing::bitwise_equal(in_place, dx));
    EXPECT_TRUE(testing::bitwise_equal(again, dweight));
  }
}

// A residual that joins gives what separate additions give; the last one may fuse into an FMA.
TEST(NormResiduals, JoinInTheSamePass) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    const Tensor x = strided_random(37, 67, dtype, "x"),
                 addend = strided_random(37, 67, dtype, "a");
    const Tensor dy = strided_random(37, 67, dtype, "dy"),
                 beside = strided_random(37, 67, dtype, "d");
    const Tensor weight = random_tensor({67}, dtype, "weight");
    const Tensor bias = random_tensor({67}, dtype, "bias");
    Tensor sum = testing::poisoned({37, 67}, dtype), y = sum.clone(), y_joined = sum.clone();
    Tensor sum_joined = addend.clone(), dx = sum.clone(), dx_joined = beside.clone();
    add(x, addend, sum);
    const auto compare = [&](auto&& forward, auto&& backward) {
      forward(sum, Residual{}, y);
      sum_joined.copy_from(addend);
      forward(x, Residual{sum_joined, sum_joined}, y_joined);
      EXPECT_TRUE(testing::bitwise_equal(sum_joined, sum));
      EXPECT_TRUE(testing::bitwise_equal(y_joined, y));
      backward(Tensor(), dx);
      add_to(beside, dx);
      dx_joined.copy_from(beside);
      backward(dx_joined, dx_joined);
      EXPECT_LE(testing::relative_error(dx_joined, dx), kTolerance[static_cast<int>(dtype)]);
    };
    Tensor rstd = Tensor::empty({37}, dtype), statistics = Tensor::empty({37, 2}, dtype);
    Tensor dweight = Tensor::zeros({67}, dtype), dbias = Tensor::zeros({67}, dtype);
    compare(
        [&](const Tensor& in, const Residual& residual, Tensor& out) {
          rms_norm_forward(in, weight, NormWeight::kPlain, kEpsilon, residual, out, rstd);
        },
        [&](const Tensor& dresidual, Tensor& out) {
          rms_norm_backward(dy, sum, weight, NormWeight::kPlain, rstd, dresidual, out, dweight);
        });
    compare(
        [&](const Tensor& in, const Residual& residual, Tensor& out) {
          layer_norm_forward(in, weight, bias, kEpsilon, residual, out, statistics);
        },
        [&](const Tensor& dresidual, Tensor& out) {
          layer_norm_backward(dy, sum, weight, statistics, dresidual, out, dweight, dbias);
        });
  }
}

TEST(LayerNorm, Gradients) {
  const Tensor x = strided_random(7, 19, DType::kF64, "x");
  const Tensor weight = random_tensor({19}, DType::kF64, "weight");
  const Tensor bias = random_tensor({19}, DType::kF64, "bias");
  const Tensor dy = strided_random(7, 19, DType::kF64, "dy");
  Tensor y = Tensor::empty({7, 19}, DType::kF64), statistics = Tensor::empty({7, 2}, DType::kF64);
  const auto loss = [&] {
    layer_norm_forward(x, weight, bias, kEpsilon, {}, y, statistics);
    return testing::weighted_sum(y, dy);
  };
  loss();
  Tensor dx = strided_poisoned(7, 19, DType::kF64);
  const Tensor begun = random_tensor({19}, DType::kF64, "begun");
  Tensor dweight = begun.clone(), dbias = begun.clone();
  layer_norm_backward(dy, x, weight, statistics, {}, dx, dweight, dbias);
  testing::GradientCheck check;
  check.add("x", x, dx);
  check.add("weight", weight, difference(dweight, begun));
  check.add("bias", bias, difference(dbias, begun));
  check.expect_close(loss);
}

TEST(Norms, BitsDoNotDependOnThreads) {
  constexpr std::int64_t kRows = 1001, kColumns = 67;
  const Tensor x = random_tensor({kRows, kColumns}, DType::kF32, "x");
  const Tensor dy = random_tensor({kRows, kColumns}, DType::kF32, "dy");
  const Tensor weight = random_tensor({kColumns}, DType::kF32, "weight");
  testing::expect_same_with_any_threads([&] {
    Tensor y = Tensor::empty_like(x), dx = Tensor::empty_like(x),
           rstd = Tensor::empty({kRows}, DType::kF32);
    Tensor dweight = Tensor::zeros({kColumns}, DType::kF32);
    rms_norm_forward(x, weight, NormWeight::kPlain, kEpsilon, {}, y, rstd);
    rms_norm_backward(dy, x, weight, NormWeight::kPlain, rstd, {}, dx, dweight);
    Tensor z = Tensor::empty_like(x), dz = Tensor::empty_like(x);
    Tensor statistics = Tensor::empty({kRows, 2}, DType::kF32);
    Tensor dscale = Tensor::zeros({kColumns}, DType::kF32), dbias = dscale.clone();
    layer_norm_forward(x, weight, weight, kEpsilon, {}, z, statistics);
    layer_norm_backward(dy, x, weight, statistics, {}, dz, dscale, dbias);
    return std::vector<Tensor>{y, rstd, dx, dweight, z, statistics, dz, dscale, dbias};
  });
}

TEST(Norms, RefuseWrongShapes) {
  const Tensor x = Tensor::zeros({3, 4}, DType::kF32), weight = Tensor::zeros({5}, DType::kF32);
  Tensor y = Tensor::zeros({3, 4}, DType::kF32), rstd = Tensor::zeros({3}, DType::kF32);
  EXPECT_THROW(rms_norm_forward(x, weight, NormWeight::kPlain, kEpsilon, {}, y, rstd),
               std::logic_error);
}

}  // namespace
}  // namespace polyhead::ops
