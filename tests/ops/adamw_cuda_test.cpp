#include <gtest/gtest.h>

#include <limits>

#include "framework/ops/adamw.h"
#include "tests/support/cuda_operands.h"

namespace polyhead::ops {
namespace {

using testing::bitwise_equal;
using testing::to_host;

constexpr AdamwOptions kOptions{.weight_decay = 0.1};
constexpr double kTolerance = 1e-6;

// One more than a whole number of 16-byte words, and many blocks.
constexpr std::int64_t kSizes[] = {1, 1003, 4096, 300000};

struct State {
  Tensor value, first_moment, second_moment, rounded;

  // The same numbers on the host, without `rounded`, and on the device.
  static State begun(std::int64_t size, Device device) {
    const auto make = [&](const char* name, double scale) {
      return testing::random_tensor({size}, DType::kF32, name, scale);
    };
    Tensor square = make("square", 0.1);
    for (std::int64_t i = 0; i < size; ++i) square.data<float>()[i] *= square.data<float>()[i];
    State state{make("value", 1), make("mean", 0.1), square, Tensor()};
    if (device == Device::kCpu) return state;
    return {state.value.to(device), state.first_moment.to(device), state.second_moment.to(device),
            testing::to_cuda(testing::poisoned({size}, DType::kF32), DType::kBf16)};
  }
  State clone() const {
    return {value.clone(), first_moment.clone(), second_moment.clone(), rounded.clone()};
  }
  State slice(std::int64_t begin, std::int64_t end) const {
    return {value.row_slice(begin, end), first_moment.row_slice(begin, end),
            second_moment.row_slice(begin, end), rounded.row_slice(begin, end)};
  }

  void update(const Tensor& grad, const Tensor& scalars) {
    adamw(grad, kOptions, scalars, value, first_moment, second_moment, rounded);
  }

  void expect_close(const State& want) const {
    EXPECT_LE(testing::relative_error(to_host(value), want.value), kTolerance);
    EXPECT_LE(testing::relative_error(to_host(first_moment), want.first_moment), kTolerance);
    EXPECT_LE(testing::relative_error(to_host(second_moment), want.second_moment), kTolerance);
  }
  void expect_bits(const State& want) const {
    EXPECT_TRUE(bitwise_equal(to_host(value), to_host(want.value)));
    EXPECT_TRUE(bitwise_equal(to_host(first_moment), to_host(want.first_moment)));
    EXPECT_TRUE(bitwise_equal(to_host(second_moment), to_host(want.second_moment)));
    EXPECT_TRUE(bitwise_equal(to_host(rounded), to_host(want.rounded)));
  }
};

Tensor scalars_of(std::int64_t update, double gradient_scale) {
  Tensor scalars = adamw_scalars(kOptions, 0.01, update);
  scalars.data<double>()[kGradientScale] = gradient_scale;
  return scalars;
}

TEST(AdamwCuda, FollowsTheCpuOverSteps) {
  for (const std::int64_t size : kSizes) {
    SCOPED_TRACE(size);
    State want = State::begun(size, Device::kCpu), got = State::begun(size, Device::kCuda);
    State again = got.clone(), unrounded = got.clone();
    unrounded.rounded = Tensor();
    for (std::int64_t update = 1; update <= 5; ++update) {
      const Tensor grad =
          testing::random_tensor({size}, DType::kF32, fmt::format("grad {}", update));
      const Tensor scalars = scalars_of(update, 0.3);
      want.update(grad, scalars);
      for (State* state : {&got, &again, &unrounded}) {
        state->update(grad.to(Device::kCuda), scalars.to(Device::kCuda));
      }
    }
    got.expect_close(want);
    EXPECT_TRUE(bitwise_equal(to_host(got.rounded), testing::rounded_to_bf16(to_host(got.value))));
    again.expect_bits(got);
    EXPECT_TRUE(bitwise_equal(to_host(unrounded.value), to_host(got.value)));
  }
}

TEST(AdamwCuda, TakesSlicesAtAnyAddress) {
  constexpr std::int64_t kSize = 1024, kOffset = 3;
  State want = State::begun(kSize + kOffset, Device::kCuda), whole = want.clone();
  const Tensor grad =
      testing::random_tensor({kSize + kOffset}, DType::kF32, "grad").to(Device::kCuda);
  const Tensor scalars = scalars_of(3, 1).to(Device::kCuda);
  want.update(grad, scalars);
  State head = whole.slice(0, kOffset), tail = whole.slice(kOffset, kSize + kOffset);
  head.update(grad.row_slice(0, kOffset), scalars);
  tail.update(grad.row_slice(kOffset, kSize + kOffset), scalars);
  whole.expect_bits(want);
}

TEST(AdamwCuda, ANanScaleChangesNothing) {
  for (const std::int64_t size : kSizes) {
    State state = State::begun(size, Device::kCuda);
    const State before = state.clone();
    const Tensor grad = testing::random_tensor({size}, DType::kF32, "grad").to(Device::kCuda);
    state.update(grad, scalars_of(2, std::numeric_limits<double>::quiet_NaN()).to(Device::kCuda));
    state.expect_bits(before);
  }
}

}  // namespace
}  // namespace polyhead::ops
