#include "framework/ops/rope.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/gradcheck.h"

namespace polyhead {
namespace {

using ops::HeadView;
using ops::Rotation;

std::vector<double> frequencies(std::int64_t rotary_dim) {
  std::vector<double> result;
  for (std::int64_t j = 0; j < rotary_dim / 2; ++j) {
    result.push_back(
        std::pow(1e4, -2.0 * static_cast<double>(j) / static_cast<double>(rotary_dim)));
  }
  return result;
}

// Every head of a strided view, with and without dimensions that stay.
TEST(Rope, TurnsPairsByTheAngleOfThePosition) {
  for (const std::int64_t rotary_dim : {2, 6, 16, 38}) {
    const std::int64_t head_dim = rotary_dim + 3, stride = head_dim + 2, length = 5;
    const double amplitude = 1.25;
    Tensor packed = testing::random_tensor({2 * length, 4 + 3 * stride}, DType::kF64, "packed");
    const Tensor before = packed.clone();
    HeadView x{packed.column_slice(4, packed.cols()), 3, head_dim, stride};
    ops::rope(ops::make_rope_table(frequencies(rotary_dim), amplitude, 9, DType::kF64), length,
              Rotation::kForward, x);
    Tensor want = before.clone();
    for (std::int64_t n = 0; n < 2 * length; ++n) {
      for (std::int64_t h = 0; h < 3; ++h) {
        for (std::int64_t j = 0; j < rotary_dim / 2; ++j) {
          const std::int64_t first = 4 + h * stride + j, second = first + rotary_dim / 2;
          const double angle = static_cast<double>(n % length) *
                               frequencies(rotary_dim)[static_cast<std::size_t>(j)];
          const double a = testing::at(before, n, first), b = testing::at(before, n, second);
          double* const row = want.data<double>() + n * want.cols();
          row[first] = amplitude * (a * std::cos(angle) - b * std::sin(angle));
          row[second] = amplitude * (a * std::sin(angle) + b * std::cos(angle));
        }
      }
    }
    EXPECT_LE(testing::relative_error(packed, want), 1e-15) << "rotary_dim " << rotary_dim;
  }
}

TEST(Rope, BackwardIsTheTranspose) {
  const auto table = ops::make_rope_table(frequencies(6), 1.1, 7, DType::kF64);
  Tensor x = testing::random_tensor({14, 16}, DType::kF64, "x");
  const Tensor dy = testing::random_tensor({14, 16}, DType::kF64, "dy");
  Tensor dx = dy.clone();
  HeadView dx_heads = ops::heads_of(dx, 2);
  ops::rope(table, 7, Rotation::kBackward, dx_heads);
  testing::GradientCheck check;
  check.add("x", x, dx);
  check.expect_close([&] {
    Tensor y = x.clone();
    HeadView y_heads = ops::heads_of(y, 2);
    ops::rope(table, 7, Rotation::kForward, y_heads);
    return testing::weighted_sum(y, dy);
  });
}

TEST(Rope, SingleKeepsItsAccuracyAtLongPositions) {
  const std::int64_t positions = 100000;
  const auto single = ops::make_rope_table(frequencies(16), 1, positions, DType::kF32);
  const auto exact = ops::make_rope_table(frequencies(16), 1, positions, DType::kF64);
  EXPECT_LE(testing::relative_error(single.cos, exact.cos), 1e-7);
  EXPECT_LE(testing::relative_error(single.sin, exact.sin), 1e-7);
}

TEST(Rope, WrongShapesAreCaught) {
  const auto table = ops::make_rope_table(frequencies(8), 1, 4, DType::kF32);
  Tensor x = Tensor::zeros({10, 16}, DType::kF32);
  HeadView heads = ops::heads_of(x, 2), narrow = ops::heads_of(x, 4);
  EXPECT_THROW(ops::rope(table, 5, Rotation::kForward, heads), std::logic_error);
  EXPECT_THROW(ops::rope(table, 4, Rotation::kForward, narrow), std::logic_error);
}

}  // namespace
}  // namespace polyhead
