#include "framework/ops/moment_rounding.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

namespace polyhead::ops {
namespace {

constexpr std::uint32_t kDraws = 1 << 16;

// Between two numbers of bf16, one of them subnormal.
constexpr float kValues[] = {1.003F, -3.7e-5F, 0.99999994F, 5.1e-39F, -2.5e30F};

float from_bits(std::uint32_t bits) {
  return std::bit_cast<float>(bits);
}

TEST(StochasticBf16, IsANeighbourAndRightOnAverage) {
  for (const float value : kValues) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    const float near = from_bits(bits & 0xFFFF0000), far = from_bits((bits & 0xFFFF0000) + 0x10000);
    double sum = 0;
    for (std::uint32_t draw = 0; draw < kDraws; ++draw) {
      const float rounded = stochastic_bf16(value, draw);
      ASSERT_TRUE(rounded == near || rounded == far) << value << " became " << rounded;
      sum += rounded;
    }
    // Over all draws the mean is exact, but for the sum's own rounding.
    EXPECT_NEAR(sum / kDraws / value, 1, 1e-11) << value;
  }
}

TEST(StochasticBf16, KeepsWhatBf16Holds) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (const float value : {0.0F, -0.0F, 1.0F, -0.15625F, kInfinity, -kInfinity}) {
    for (const std::uint32_t draw : {0U, 1U, 0x8000U, 0xFFFFU}) {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(stochastic_bf16(value, draw)),
                std::bit_cast<std::uint32_t>(value));
    }
  }
  // With all its bits in the lower half, which a sum could carry into the sign.
  for (const std::uint32_t nan : {0x7F800001U, 0x7FFFFFFFU, 0xFFFFFFFFU}) {
    EXPECT_TRUE(std::isnan(stochastic_bf16(from_bits(nan), 0xFFFF)));
  }
}

TEST(RoundingWords, AreRightOnAverageForBothMomentsOverUpdates) {
  const MomentRounding rounding{.seed = 1234, .stream = stream_id("weight"), .slice = {}};
  constexpr std::int64_t kUpdates = 4000, kBlocks = 5;
  constexpr auto kCount = static_cast<double>(kUpdates * kBlocks * kRoundedTogether);
  for (const float value : kValues) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
    const double share = (bits & 0xFFFF) / static_cast<double>(kDraws);  // that goes away from 0
    double first = 0, second = 0, both = 0;
    for (std::int64_t update = 1; update <= kUpdates; ++update) {
      for (std::int64_t block = 0; block < kBlocks; ++block) {
        for (const std::uint32_t word :
             rounding_words(rounding, static_cast<std::uint64_t>(update), block)) {
          const auto goes_far = [&](std::uint32_t draw) {
            return std::abs(stochastic_bf16(value, draw)) > std::abs(value);
          };
          const bool first_goes = goes_far(first_moment_bits(word));
          const bool second_goes = goes_far(second_moment_bits(word));
          first += first_goes;
          second += second_goes;
          both += first_goes && second_goes;
        }
      }
    }
    const auto bound = [&](double p) { return 5 * std::sqrt(p * (1 - p) / kCount); };
    EXPECT_NEAR(first / kCount, share, bound(share)) << value;
    EXPECT_NEAR(second / kCount, share, bound(share)) << value;
    EXPECT_NEAR(both / kCount, share * share, bound(share * share)) << value;
  }
}

TEST(RoundingWords, DependOnSeedStreamUpdateAndBlock) {
  std::set<std::array<std::uint32_t, 4>> seen;
  for (const std::uint64_t seed : {1, 2}) {
    for (const std::uint64_t stream : {3, 4}) {
      seen.insert(random_words(seed, stream, 5));  // what initial values are made of
      for (const std::uint64_t update : {1, 2}) {
        for (const std::int64_t block : {5, 6}) {
          seen.insert(rounding_words({.seed = seed, .stream = stream, .slice = {}}, update, block));
        }
      }
    }
  }
  EXPECT_EQ(seen.size(), 4 + 16U);
}

}  // namespace
}  // namespace polyhead::ops
