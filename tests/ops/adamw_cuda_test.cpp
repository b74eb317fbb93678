#include "framework/ops/adamw.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "framework/bf16.h"
#include "tests/support/adamw_state.h"
#include "tests/support/cuda_operands.h"

namespace polyhead::ops {
namespace {

using testing::AdamwState;
using testing::bitwise_equal;
using testing::to_host;

constexpr double kTolerance = 1e-6;

// One more than a whole number of 16-byte words, and many blocks.
constexpr std::int64_t kSizes[] = {1, 1003, 4096, 300000};

constexpr DType kMomentTypes[] = {DType::kF32, DType::kBf16};

AdamwOptions options_of(const SliceIndex& slice, std::int64_t begin = 0) {
  return {.weight_decay = 0.1,
          .rounding = {.seed = 11, .stream = stream_id("weight"), .slice = slice, .begin = begin}};
}
// Of a parameter of one row.
AdamwOptions options_of(std::int64_t size) {
  return options_of({.first = 0, .columns = size, .whole_columns = size});
}

Tensor scalars_of(std::int64_t update, double gradient_scale) {
  Tensor scalars = adamw_scalars({}, 0.01, update);
  scalars.data<double>()[kGradientScale] = gradient_scale;
  return scalars;
}

void expect_close(const Tensor& got, const Tensor& want) {
  EXPECT_LE(testing::relative_error(to_host(got), want), kTolerance);
}

TEST(AdamwCuda, FollowsTheCpuOverSteps) {
  for (const std::int64_t size : kSizes) {
    SCOPED_TRACE(size);
    const AdamwOptions options = options_of(size);
    AdamwState want = AdamwState::begun(size, DType::kF32), got = want.on_cuda();
    AdamwState again = got.clone(), unrounded = got.clone();
    unrounded.rounded = Tensor();
    for (std::int64_t update = 1; update <= 5; ++update) {
      const Tensor grad =
          testing::random_tensor({size}, DType::kF32, fmt::format("grad {}", update));
      const Tensor scalars = scalars_of(update, 0.3);
      want.update(grad, options, scalars);
      for (AdamwState* state : {&got, &again, &unrounded}) {
        state->update(grad.to(Device::kCuda), options, scalars.to(Device::kCuda));
      }
    }
    expect_close(got.value, want.value);
    expect_close(got.first_moment, want.first_moment);
    expect_close(got.second_moment, want.second_moment);
    EXPECT_TRUE(bitwise_equal(to_host(got.rounded), testing::rounded_to_bf16(to_host(got.value))));
    again.expect_bits(got);
    EXPECT_TRUE(bitwise_equal(to_host(unrounded.value), to_host(got.value)));
  }
}

// Both devices draw the same bits. Where the f32 numbers before rounding differ, by fused
// multiplications, the results do if a draw lies between: in one of 2^16 for each last bit. `error`
// is what f32 leaves of terms that cancel.
void expect_same_rounding(const Tensor& got, const Tensor& want, double error) {
  constexpr double kShare = 1e-3;
  std::int64_t others = 0;
  for (std::int64_t i = 0; i < want.numel(); ++i) {
    const double number = to_float(got.data<Bf16>()[i]), wanted = to_float(want.data<Bf16>()[i]);
    ASSERT_LE(std::abs(number - wanted), std::ldexp(std::abs(wanted), -7) + error)
        << "element " << i;  // at most one step of bf16
    others += number != wanted ? 1 : 0;
  }
  EXPECT_LE(static_cast<double>(others), kShare * static_cast<double>(want.numel()));
}

TEST(AdamwCuda, RoundsMomentsAsTheCpuDoes) {
  for (const std::int64_t size : kSizes) {
    // Whole blocks of random words where the size allows it, blocks cut by rows, and by the start.
    for (const auto& [slice, begin] :
         {std::pair{SliceIndex{.first = 8, .columns = 64, .whole_columns = 192}, 4},
          {SliceIndex{.first = 8, .columns = 37, .whole_columns = 192}, 0},
          {SliceIndex{.first = 5, .columns = 64, .whole_columns = 64}, 0},
          {SliceIndex{.first = 0, .columns = 64, .whole_columns = 64}, 3}}) {
      SCOPED_TRACE(fmt::format("{} elements, {} columns from {}", size, slice.columns, begin));
      const AdamwOptions options = options_of(slice, begin);
      for (std::int64_t update = 1; update <= 3; ++update) {
        AdamwState want = AdamwState::begun(size, DType::kBf16), got = want.on_cuda();
        AdamwState again = got.clone();
        const Tensor grad = testing::random_tensor({size}, DType::kF32, "grad");
        const Tensor scalars = scalars_of(update, 0.3);
        want.update(grad, options, scalars);
        for (AdamwState* state : {&got, &again}) {
          state->update(grad.to(Device::kCuda), options, scalars.to(Device::kCuda));
        }
        again.expect_bits(got);
        expect_close(got.value, want.value);
        expect_same_rounding(got.first_moment.to(Device::kCpu), want.first_moment, 1e-7);
        expect_same_rounding(got.second_moment.to(Device::kCpu), want.second_moment, 0);
      }
    }
  }
}

TEST(AdamwCuda, TakesSlicesAtAnyAddress) {
  constexpr std::int64_t kSize = 1027, kOffset = 3;
  const SliceIndex slice{.first = 0, .columns = kSize, .whole_columns = kSize};
  for (const DType moments : kMomentTypes) {
    SCOPED_TRACE(name_of(moments));
    AdamwState want = AdamwState::begun(kSize, moments).on_cuda(), whole = want.clone();
    const Tensor grad = testing::random_tensor({kSize}, DType::kF32, "grad").to(Device::kCuda);
    const Tensor scalars = scalars_of(3, 1).to(Device::kCuda);
    want.update(grad, options_of(slice), scalars);
    AdamwState head = whole.slice(0, kOffset), tail = whole.slice(kOffset, kSize);
    head.update(grad.row_slice(0, kOffset), options_of(slice), scalars);
    tail.update(grad.row_slice(kOffset, kSize), options_of(slice, kOffset), scalars);
    whole.expect_bits(want);
  }
}

// Packs of a block of random words against single elements.
TEST(AdamwCuda, RoundsMomentsTheSameAtAnyAddress) {
  constexpr std::int64_t kSize = 4096, kOffset = 1;
  const AdamwOptions options = options_of({.first = 64, .columns = 32, .whole_columns = 96});
  AdamwState want = AdamwState::begun(kSize, DType::kBf16).on_cuda();
  const auto moved = [&](const Tensor& tensor) {
    Tensor at_odd_address =
        Tensor::empty_like(tensor, {kSize + kOffset}).row_slice(kOffset, kSize + kOffset);
    at_odd_address.copy_from(tensor);
    return at_odd_address;
  };
  AdamwState got = want.map(moved);
  const Tensor grad = testing::random_tensor({kSize}, DType::kF32, "grad").to(Device::kCuda);
  const Tensor scalars = scalars_of(3, 1).to(Device::kCuda);
  want.update(grad, options, scalars);
  got.update(grad, options, scalars);
  got.expect_bits(want);
}

TEST(AdamwCuda, ANanScaleChangesNothing) {
  for (const DType moments : kMomentTypes) {
    for (const std::int64_t size : kSizes) {
      AdamwState state = AdamwState::begun(size, moments).on_cuda();
      const AdamwState before = state.clone();
      const Tensor grad = testing::random_tensor({size}, DType::kF32, "grad").to(Device::kCuda);
      state.update(grad, options_of(size),
                   scalars_of(2, std::numeric_limits<double>::quiet_NaN()).to(Device::kCuda));
      state.expect_bits(before);
    }
  }
}

}  // namespace
}  // namespace polyhead::ops
