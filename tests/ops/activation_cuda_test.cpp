#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "framework/ops/activation.h"
#include "tests/support/cuda_operands.h"

namespace polyhead::ops {
namespace {

using testing::Operand;
using testing::Place;
using testing::to_host;

constexpr Activation kAll[] = {Activation::kSwiglu, Activation::kGeglu, Activation::kGeluTanh,
                               Activation::kGelu};
constexpr DType kDTypes[] = {DType::kF32, DType::kBf16};

Place input_of(Activation activation, const Place& place) {
  return {place.rows, (is_gated(activation) ? 2 : 1) * place.columns, place.placement};
}

template <class Body>
void for_each_case(const Body& body) {
  for (const DType dtype : kDTypes) {
    for (const Activation activation : kAll) {
      for (const Place& place : testing::kPlaces) {
        SCOPED_TRACE(fmt::format("{}, activation {}, {} x {} behind {} columns", name_of(dtype),
                                 static_cast<int>(activation), place.rows, place.columns,
                                 place.placement.before));
        body(dtype, activation, place);
      }
    }
  }
}

TEST(ActivationCuda, ForwardEqualsTheCpu) {
  for_each_case([](DType dtype, Activation activation, const Place& place) {
    const Operand x = Operand::random(input_of(activation, place), dtype, "x", 3.0);
    Operand y = Operand::unwritten(place, dtype);
    activation_forward(x.device, activation, y.device);
    activation_forward(x.host, activation, y.host);
    y.expect_close(y.host, testing::rounding(dtype));
  });
}

TEST(ActivationCuda, BackwardEqualsTheCpu) {
  for_each_case([](DType dtype, Activation activation, const Place& place) {
    const Place wide = input_of(activation, place);
    Operand x = Operand::random(wide, dtype, "x", 3.0);
    const Operand dy = Operand::random(place, dtype, "dy");
    Operand dx = Operand::unwritten(wide, dtype);
    activation_backward(dy.device, x.device, activation, dx.device);
    activation_backward(dy.host, x.host, activation, dx.host);
    // The slope holds differences from 1 times numbers of the size of x^3.
    const double tolerance = testing::rounding(dtype) + 3e-6;
    dx.expect_close(dx.host, tolerance);

    activation_backward(dy.device, x.device, activation, x.device);
    x.expect_close(dx.host, tolerance);
    EXPECT_TRUE(testing::bitwise_equal(to_host(x.device), to_host(dx.device)));
  });
}

// Large arguments saturate; a NaN passes through.
TEST(ActivationCuda, SurvivesExtremes) {
  for (const DType dtype : kDTypes) {
    for (const Activation activation : kAll) {
      const std::int64_t width = is_gated(activation) ? 2 : 1;
      const auto on_device = [&](const Tensor& host) { return testing::to_cuda(host, dtype); };
      for (const double magnitude : {32.0, 128.0, 1024.0, 1048576.0}) {
        Tensor x = testing::filled({2, width}, DType::kF32, 1);
        x.data<float>()[0] = static_cast<float>(magnitude);
        x.data<float>()[width] = static_cast<float>(-magnitude);
        const Tensor dy = on_device(testing::filled({2, 1}, DType::kF32, 1));
        Tensor y = on_device(testing::poisoned({2, 1}, DType::kF32));
        Tensor dx = on_device(testing::poisoned({2, width}, DType::kF32));
        activation_forward(on_device(x), activation, y);
        activation_backward(dy, on_device(x), activation, dx);
        EXPECT_EQ(testing::at(to_host(y), 0, 0), magnitude);
        EXPECT_NEAR(testing::at(to_host(y), 1, 0), 0, 1e-11);
        EXPECT_EQ(testing::at(to_host(dx), 0, 0), 1);
        EXPECT_NEAR(testing::at(to_host(dx), 1, 0), 0, 1e-11);
      }
      Tensor y = on_device(testing::filled({1, 1}, DType::kF32, 0));
      activation_forward(on_device(testing::poisoned({1, width}, DType::kF32)), activation, y);
      EXPECT_TRUE(std::isnan(testing::at(to_host(y), 0, 0)));
    }
  }
}

}  // namespace
}  // namespace polyhead::ops
