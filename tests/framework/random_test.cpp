#include "framework/random.h"

#include <gtest/gtest.h>

namespace polyhead {
namespace {

// Known answers of the Random123 distribution (kat_vectors, philox4x32 10).
TEST(Philox, KnownAnswers) {
  using Words = std::array<std::uint32_t, 4>;
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, {0xffffffff, 0xffffffff}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

TEST(Normal, HasUnitVarianceAndIndependentStreams) {
  constexpr int kCount = 100000;
  double sum = 0, squares = 0, cross = 0;
  for (int i = 0; i < kCount; ++i) {
    const double x = normal(1234, stream_id("a"), static_cast<std::uint64_t>(i));
    sum += x;
    squares += x * x;
    cross += x * normal(1234, stream_id("b"), static_cast<std::uint64_t>(i));
  }
  EXPECT_NEAR(sum / kCount, 0, 0.01);
  EXPECT_NEAR(squares / kCount, 1, 0.02);
  EXPECT_NEAR(cross / kCount, 0, 0.01);
}

TEST(Uniform, IsAPureFunctionInTheUnitInterval) {
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const double x = uniform(7, 9, i);
    EXPECT_EQ(x, uniform(7, 9, i));
    EXPECT_GE(x, 0);
    EXPECT_LT(x, 1);
  }
}

}  // namespace
}  // namespace polyhead
