// What AdamW updates, for tests of the op.
#pragma once

#include <gtest/gtest.h>

#include "framework/checkpoint/element_conversion.h"
#include "framework/ops/adamw.h"
#include "tests/support/op_inputs.h"

namespace polyhead::testing {

struct AdamwState {
  Tensor value, first_moment, second_moment;
  Tensor rounded;  // on CUDA only

  // The same numbers in every dtype, but for rounding.
  static AdamwState begun(std::int64_t size, DType moments) {
    const auto make = [&](const char* name, double scale) {
      return random_tensor({size}, DType::kF32, name, scale);
    };
    Tensor square = make("square", 0.1);
    for (std::int64_t i = 0; i < size; ++i) square.data<float>()[i] *= square.data<float>()[i];
    return {make("value", 1), converted(make("mean", 0.1), moments), converted(square, moments),
            Tensor()};
  }
  AdamwState on_cuda() const {
    AdamwState copy = map([](const Tensor& tensor) { return tensor.to(Device::kCuda); });
    copy.rounded = converted(poisoned(value.shape(), DType::kF32), DType::kBf16).to(Device::kCuda);
    return copy;
  }
  AdamwState on_cpu() const {
    return map([](const Tensor& tensor) { return tensor.to(Device::kCpu); });
  }
  // With moments in f32.
  AdamwState widened() const {
    return {value.clone(), converted(first_moment, DType::kF32),
            converted(second_moment, DType::kF32), Tensor()};
  }
  template <class Change>
  AdamwState map(Change&& change) const {
    return {change(value), change(first_moment), change(second_moment),
            rounded ? change(rounded) : Tensor()};
  }
  AdamwState clone() const {
    return map([](const Tensor& tensor) { return tensor.clone(); });
  }
  AdamwState slice(std::int64_t begin, std::int64_t end) const {
    return map([&](const Tensor& tensor) { return tensor.row_slice(begin, end); });
  }

  void update(const Tensor& grad, const ops::AdamwOptions& options, const Tensor& scalars) {
    ops::adamw(grad, options, scalars, value, first_moment, second_moment, rounded);
  }

  void expect_bits(const AdamwState& want) const {
    const AdamwState mine = on_cpu(), its = want.on_cpu();
    EXPECT_TRUE(bitwise_equal(mine.value, its.value));
    EXPECT_TRUE(bitwise_equal(mine.first_moment, its.first_moment));
    EXPECT_TRUE(bitwise_equal(mine.second_moment, its.second_moment));
    ASSERT_EQ(static_cast<bool>(rounded), static_cast<bool>(want.rounded));
    if (rounded) {
      EXPECT_TRUE(bitwise_equal(mine.rounded, its.rounded));
    }
  }
};

}  // namespace polyhead::testing
