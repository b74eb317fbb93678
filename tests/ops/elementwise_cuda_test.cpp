#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "framework/ops/elementwise.h"
#include "tests/support/cuda_operands.h"

namespace polyhead::ops {
namespace {

using testing::Operand;
using testing::Place;
using testing::to_host;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

Tensor scalar(double value, Device device) {
  return testing::filled({1}, DType::kF64, value).to(device);
}

double value_of(const Tensor& scalar) {
  return scalar.to(Device::kCpu).data<double>()[0];
}

class ElementwiseCuda : public ::testing::TestWithParam<DType> {
 protected:
  // Calls body(place) for shapes and placements.
  template <class Body>
  void for_each_place(const Body& body) const {
    for (const Place& place : testing::kPlaces) {
      SCOPED_TRACE(fmt::format("{} x {} behind {} columns", place.rows, place.columns,
                               place.placement.before));
      body(place);
    }
  }

  DType dtype_ = GetParam();
  double tolerance_ = testing::rounding(dtype_);
};
INSTANTIATE_TEST_SUITE_P(DTypes, ElementwiseCuda, ::testing::Values(DType::kF32, DType::kBf16));

TEST_P(ElementwiseCuda, FillScaleAndAdd) {
  for_each_place([&](const Place& place) {
    Operand x = Operand::unwritten(place, dtype_);
    fill(2.5, x.device);
    scale(-2, x.device);
    x.expect_close(testing::filled(x.host.shape(), DType::kF64, -5), 0);

    const Operand a = Operand::random(place, dtype_, "a"), b = Operand::random(place, dtype_, "b");
    Operand y = Operand::unwritten(place, dtype_);
    add(a.device, b.device, y.device);
    add(a.host, b.host, y.host);
    y.expect_close(y.host, tolerance_);
    Tensor in_place = a.device.clone();
    add_to(b.device, in_place);
    EXPECT_TRUE(testing::bitwise_equal(to_host(in_place), to_host(y.device)));
  });
}

TEST_P(ElementwiseCuda, MixesPlacements) {
  const Place place{37, 64, testing::kUnaligned};
  const Operand a = Operand::random({37, 64, testing::kAligned}, dtype_, "a");
  const Operand b = Operand::random({37, 64, testing::kAlone}, dtype_, "b");
  Operand y = Operand::unwritten(place, dtype_);
  add(a.device, b.device, y.device);
  add(a.host, b.host, y.host);
  y.expect_close(y.host, tolerance_);
}

TEST_P(ElementwiseCuda, Bias) {
  for_each_place([&](const Place& place) {
    const Operand bias = Operand::random({1, place.columns, place.placement}, dtype_, "bias");
    Operand y = Operand::random(place, dtype_, "y");
    add_bias(bias.device, y.device);
    add_bias(bias.host, y.host);
    y.expect_close(y.host, tolerance_);

    const Operand dy = Operand::random(place, dtype_, "dy");
    Operand dbias = Operand::random({1, place.columns, testing::kAlone}, DType::kF32, "begun");
    Tensor again = dbias.device.clone();
    bias_backward(dy.device, dbias.device);
    bias_backward(dy.host, dbias.host);
    dbias.expect_close(dbias.host, 1e-5);  // f32 sums of exact values, whatever the dtype
    bias_backward(dy.device, again);
    EXPECT_TRUE(testing::bitwise_equal(to_host(again), to_host(dbias.device)));
  });
}

TEST_P(ElementwiseCuda, Softcap) {
  for_each_place([&](const Place& place) {
    Operand y = Operand::random(place, dtype_, "x", 20.0);
    softcap_forward(30, y.device);
    softcap_forward(30, y.host);
    // In bf16 tanh is off by up to 2^-11 before the rounding.
    y.expect_close(y.host, dtype_ == DType::kBf16 ? tolerance_ + 5e-4 : tolerance_);

    const Operand capped = Operand::random(place, dtype_, "y", 9.0);
    Operand dy = Operand::random(place, dtype_, "dy");
    softcap_backward(capped.device, 30, dy.device);
    softcap_backward(capped.host, 30, dy.host);
    dy.expect_close(dy.host, tolerance_);
  });
  Tensor extreme = testing::to_cuda(testing::filled({1, 3}, DType::kF32, -1e6), dtype_);
  softcap_forward(30, extreme);
  EXPECT_EQ(testing::at(to_host(extreme), 0, 0), -30);
}

TEST_P(ElementwiseCuda, SumsInDoublePrecision) {
  const auto expect_sums = [&](const Operand& x) {
    for (const double factor : {1.0, -0.125}) {
      Tensor want = scalar(3, Device::kCpu), got = scalar(3, Device::kCuda);
      add_sum(factor, x.host, want);
      add_sum(factor, x.device, got);
      Tensor magnitude = scalar(0, Device::kCpu);
      add_sum_squares(x.host, magnitude);
      EXPECT_NEAR(value_of(got), value_of(want), 1e-13 * (3 + value_of(magnitude)));
    }
    Tensor want = scalar(3, Device::kCpu), got = scalar(3, Device::kCuda), again = got.clone();
    add_sum_squares(x.host, want);
    add_sum_squares(x.device, got);
    EXPECT_NEAR(value_of(got), value_of(want), 1e-13 * value_of(want));
    add_sum_squares(x.device, again);
    EXPECT_TRUE(testing::bitwise_equal(to_host(again), to_host(got)));
  };
  for_each_place([&](const Place& place) { expect_sums(Operand::random(place, dtype_, "x")); });
  expect_sums(Operand::random({1, 3000003, testing::kAlone}, dtype_, "flat"));
  expect_sums(Operand::random({1, 3000000, testing::kAlone}, dtype_, "flat"));
}

TEST_P(ElementwiseCuda, SumsKeepWhatIsNotFiniteAndLargeSquares) {
  for (const double bad : {kNan, kInfinity}) {
    Tensor x = testing::filled({1003}, DType::kF32, 1);
    x.data<float>()[1000] = static_cast<float>(bad);
    Tensor sum = scalar(0, Device::kCuda), squares = sum.clone();
    add_sum(1, testing::to_cuda(x, dtype_), sum);
    add_sum_squares(testing::to_cuda(x, dtype_), squares);
    EXPECT_FALSE(std::isfinite(value_of(sum)));
    EXPECT_FALSE(std::isfinite(value_of(squares)));
  }
  Tensor squares = scalar(0, Device::kCuda);
  add_sum_squares(testing::to_cuda(testing::filled({2}, DType::kF32, std::ldexp(1, 100)), dtype_),
                  squares);
  EXPECT_EQ(value_of(squares), std::ldexp(1, 201));
}

TEST_P(ElementwiseCuda, AllFinite) {
  Tensor x = testing::random_tensor({40009}, DType::kF32, "x");
  EXPECT_TRUE(all_finite(testing::to_cuda(x, dtype_)));
  for (const double bad : {kNan, kInfinity, -kInfinity}) {
    for (const std::int64_t place : {0, 1, 7, 255, 256, 4097, 40000, 40008}) {
      Tensor broken = x.clone();
      broken.data<float>()[place] = static_cast<float>(bad);
      EXPECT_FALSE(all_finite(testing::to_cuda(broken, dtype_))) << bad << " at " << place;
    }
  }
  EXPECT_TRUE(all_finite(Operand::random({5, 20, testing::kUnaligned}, dtype_, "slice").device));
}

TEST(ElementwiseCudaScalars, AreF64) {
  Tensor x = scalar(kNan, Device::kCuda), sum = scalar(1, Device::kCuda);
  fill(1.0 / 3, x);
  scale(1e-3, x);
  EXPECT_EQ(value_of(x), 1.0 / 3 * 1e-3);
  add_to(x, sum);
  EXPECT_EQ(value_of(sum), 1 + 1.0 / 3 * 1e-3);
  add_sum(0.5, x, sum);
  EXPECT_EQ(value_of(sum), 1 + 1.0 / 3 * 1e-3 + 0.5 * (1.0 / 3 * 1e-3));
}

TEST(ElementwiseCudaScalars, ClipScaleAsOnTheCpu) {
  for (const double squares : {0.0, 1e-20, 4.0, 9.0, 1e300, kInfinity, kNan}) {
    for (const double max_norm : {0.0, 1.0, 3.0}) {
      Tensor want = scalar(-7, Device::kCpu), got = scalar(-7, Device::kCuda);
      clip_scale(scalar(squares, Device::kCpu), max_norm, want);
      clip_scale(scalar(squares, Device::kCuda), max_norm, got);
      if (std::isnan(value_of(want))) {
        EXPECT_TRUE(std::isnan(value_of(got))) << squares << ", " << max_norm;
      } else {
        EXPECT_DOUBLE_EQ(value_of(got), value_of(want)) << squares << ", " << max_norm;
      }
    }
  }
}

TEST(ElementwiseCudaShapes, NothingToDo) {
  Tensor none = Tensor::zeros({0, 8}, DType::kF32, Device::kCuda);
  Tensor dbias = testing::filled({8}, DType::kF32, 2).to(Device::kCuda);
  Tensor sum = scalar(5, Device::kCuda);
  fill(1, none);
  add_to(none, none);
  bias_backward(none, dbias);
  add_sum(1, none, sum);
  EXPECT_EQ(value_of(sum), 5);
  EXPECT_EQ(testing::at(to_host(dbias), 0, 7), 2);
  EXPECT_TRUE(all_finite(none));
}

}  // namespace
}  // namespace polyhead::ops
