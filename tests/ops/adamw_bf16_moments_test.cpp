// AdamW with moments in bf16, rounded stochastically, beside f32 values.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "framework/bf16.h"
#include "framework/ops/adamw.h"
#include "tests/support/adamw_state.h"
#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

using testing::AdamwState;

// Less than a block of random words, and more than a run of elements that one thread takes.
constexpr std::int64_t kSizes[] = {1, 7, 9001};

// The parameter that the tensors hold a part of.
MomentRounding rounding_of(const SliceIndex& slice, std::int64_t begin = 0) {
  return {.seed = 11, .stream = stream_id("weight"), .slice = slice, .begin = begin};
}

TEST(Bf16Moments, AreTheRoundedF32OnesAndLeaveValuesExact) {
  for (const std::int64_t size : kSizes) {
    SCOPED_TRACE(size);
    const SliceIndex slice{.first = 5, .columns = size, .whole_columns = size};
    const AdamwOptions options{.weight_decay = 0.1, .rounding = rounding_of(slice)};
    AdamwState got = AdamwState::begun(size, DType::kBf16), want = got.widened();
    const Tensor grad = testing::random_tensor({size}, DType::kF32, "grad");
    constexpr std::int64_t kUpdate = 3;
    const Tensor scalars = adamw_scalars(options, 0.01, kUpdate);
    got.update(grad, options, scalars);
    want.update(grad, options, scalars);
    EXPECT_TRUE(testing::bitwise_equal(got.value, want.value));
    for (std::int64_t i = 0; i < size; ++i) {
      const std::int64_t index = 5 + i;
      const std::uint32_t word =
          rounding_words(options.rounding, kUpdate, index / 4)[static_cast<std::size_t>(index % 4)];
      ASSERT_EQ(to_float(got.first_moment.data<Bf16>()[i]),
                stochastic_bf16(want.first_moment.data<float>()[i], first_moment_bits(word)));
      ASSERT_EQ(to_float(got.second_moment.data<Bf16>()[i]),
                stochastic_bf16(want.second_moment.data<float>()[i], second_moment_bits(word)));
    }
  }
}

// A (7, 13) parameter as a whole, in rows, in columns, and in pieces that begin inside a row.
TEST(Bf16Moments, DoNotDependOnTheLayout) {
  constexpr std::int64_t kRows = 7, kColumns = 13;
  const SliceIndex everything{.first = 0, .columns = kColumns, .whole_columns = kColumns};
  const AdamwState begun = AdamwState::begun(kRows * kColumns, DType::kBf16);
  const Tensor grad = testing::random_tensor({kRows * kColumns}, DType::kF32, "grad");
  const auto updated = [&](AdamwState state, const Tensor& its_grad, const MomentRounding& where) {
    const AdamwOptions options{.rounding = where};
    for (std::int64_t update = 1; update <= 3; ++update) {
      state.update(its_grad, options, adamw_scalars(options, 0.01, update));
    }
    return state;
  };
  const AdamwState want = updated(begun.clone(), grad, rounding_of(everything));

  for (const std::int64_t border : {1, 3, 13, 40}) {
    SCOPED_TRACE(border);
    const std::int64_t size = grad.numel();
    AdamwState pieces = begun.clone();
    updated(pieces.slice(0, border), grad.row_slice(0, border), rounding_of(everything));
    updated(pieces.slice(border, size), grad.row_slice(border, size),
            rounding_of(everything, border));
    pieces.expect_bits(want);
  }
  const auto columns_of = [&](const Tensor& flat, std::int64_t begin, std::int64_t end) {
    const Tensor columns = flat.reshaped({kRows, kColumns}).column_slice(begin, end).clone();
    return columns.reshaped({kRows * (end - begin)});
  };
  for (const auto& [begin, end] : {std::pair{0, 6}, {6, 13}}) {
    SCOPED_TRACE(begin);
    const auto cut = [&, from = begin, to = end](const AdamwState& state) {
      return state.map([&](const Tensor& flat) { return columns_of(flat, from, to); });
    };
    const SliceIndex slice{.first = begin, .columns = end - begin, .whole_columns = kColumns};
    updated(cut(begun), columns_of(grad, begin, end), rounding_of(slice)).expect_bits(cut(want));
  }
}

TEST(Bf16Moments, DoNotDependOnThreads) {
  constexpr std::int64_t kSize = 40003;
  const Tensor grad = testing::random_tensor({kSize}, DType::kF32, "grad");
  const SliceIndex slice{.first = 2, .columns = 119, .whole_columns = 301};
  const AdamwOptions options{.rounding = rounding_of(slice, 1)};
  testing::expect_same_with_any_threads([&] {
    AdamwState state = AdamwState::begun(kSize, DType::kBf16);
    state.update(grad, options, adamw_scalars(options, 0.01, 3));
    return std::vector<Tensor>{state.value, state.first_moment, state.second_moment};
  });
}

TEST(Bf16Moments, StayWhereTheScaleIsNan) {
  AdamwState state = AdamwState::begun(7, DType::kBf16);
  const AdamwState before = state.clone();
  Tensor scalars = adamw_scalars({}, 0.5, 3);
  scalars.data<double>()[kGradientScale] = std::numeric_limits<double>::quiet_NaN();
  state.update(testing::ones({7}, DType::kF32), {}, scalars);
  state.expect_bits(before);
}

// An update adds a thousandth of what is missing: soon less than half the distance of two numbers.
TEST(Bf16Moments, MoveWhereRoundingToTheNearestStops) {
  constexpr std::int64_t kSize = 1003;
  constexpr int kUpdates = 1500;
  const SliceIndex slice{.first = 0, .columns = kSize, .whole_columns = kSize};
  const AdamwOptions options{.beta2 = 0.999, .rounding = rounding_of(slice)};
  AdamwState state{Tensor::zeros({kSize}, DType::kF32), Tensor::zeros({kSize}, DType::kBf16),
                   Tensor::zeros({kSize}, DType::kBf16), Tensor()};
  const Tensor grad = testing::ones({kSize}, DType::kF32);
  float nearest = 0;
  for (std::int64_t update = 1; update <= kUpdates; ++update) {
    state.update(grad, options, adamw_scalars(options, 1e-3, update));
    nearest = to_float(to_bf16(0.999F * nearest + 0.001F));
  }
  double mean = 0;
  for (std::int64_t i = 0; i < kSize; ++i) {
    mean += to_float(state.second_moment.data<Bf16>()[i]) / static_cast<double>(kSize);
  }
  const double exact = 1 - std::pow(0.999, kUpdates);
  EXPECT_NEAR(mean, exact, 0.01);
  EXPECT_LT(nearest, 0.5 * exact);
}

TEST(Bf16Moments, AreBothInBf16BesideF32) {
  const auto zeros = [](DType dtype) { return Tensor::zeros({3}, dtype); };
  const auto update = [&](DType values, DType first, DType second) {
    AdamwState state{zeros(values), zeros(first), zeros(second), Tensor()};
    state.update(zeros(values), {}, adamw_scalars({}, 0.1, 1));
  };
  EXPECT_NO_THROW(update(DType::kF32, DType::kBf16, DType::kBf16));
  EXPECT_THROW(update(DType::kF32, DType::kBf16, DType::kF32), std::logic_error);
  EXPECT_THROW(update(DType::kF64, DType::kBf16, DType::kBf16), std::logic_error);
  EXPECT_THROW(update(DType::kF64, DType::kF32, DType::kF32), std::logic_error);
}

}  // namespace
}  // namespace polyhead::ops
