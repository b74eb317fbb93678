#include "data/paired_bootstrap.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "framework/random.h"
#include "tests/support/op_inputs.h"

namespace polyhead {
namespace {

std::vector<PairedUnit> normal_units(std::size_t count, double mean, double deviation) {
  std::vector<PairedUnit> units;
  for (std::size_t i = 0; i < count; ++i) units.push_back({mean + deviation * normal(5, 1, i), 1});
  return units;
}

// Of n units of one length the means lie as a normal distribution of deviation s / sqrt(n).
TEST(PairedBootstrap, FindsTheIntervalOfAMean) {
  const std::vector<PairedUnit> units = normal_units(301, -0.02, 0.3);
  double sum = 0, squares = 0;
  for (const PairedUnit& unit : units) sum += unit.difference;
  const double mean = sum / 301;
  for (const PairedUnit& unit : units) squares += std::pow(unit.difference - mean, 2);
  const double half = 1.96 * std::sqrt(squares / 301 / 301);
  const PairedDifference found = paired_bootstrap(units, 7);
  EXPECT_NEAR(found.mean, mean, 1e-12);
  EXPECT_NEAR(found.interval->low, mean - half, 0.04 * half);
  EXPECT_NEAR(found.interval->high, mean + half, 0.04 * half);
}

// 95 of 100 intervals of fresh texts must hold the true difference; within the binomial's spread.
TEST(PairedBootstrap, CoversTheTruth) {
  int covered = 0;
  for (std::uint64_t text = 0; text < 60; ++text) {
    std::vector<PairedUnit> units;
    for (std::uint64_t i = 0; i < 40; ++i) units.push_back({0.1 + normal(9, text, i), 1});
    const Interval interval = paired_bootstrap(units, 3).interval.value();
    covered += interval.low < 0.1 && 0.1 < interval.high;
  }
  EXPECT_GE(covered, 50);
  EXPECT_LE(covered, 59);
}

TEST(PairedBootstrap, WeighsUnitsByTheirLength) {
  const std::vector<PairedUnit> units = {{-3, 10}, {1, 30}, {0, 60}};
  const PairedDifference found = paired_bootstrap(units, 1);
  EXPECT_NEAR(found.mean, -0.02, 1e-15);
  EXPECT_NEAR(found.win_rate, 0.5, 1e-15);
  // The first alone is drawn in one of 27 resamples, the second alone likewise: both beyond 2.5 %.
  EXPECT_NEAR(found.interval->low, -0.3, 1e-12);
  EXPECT_NEAR(found.interval->high, 1.0 / 30, 1e-12);
}

TEST(PairedBootstrap, GivesNoIntervalOfOneUnit) {
  const std::vector<PairedUnit> units = {{-3, 10}};
  EXPECT_NEAR(paired_bootstrap(units, 1).mean, -0.3, 1e-15);
  EXPECT_EQ(paired_bootstrap(units, 1).win_rate, 1);
  EXPECT_FALSE(paired_bootstrap(units, 1).interval);
}

TEST(PairedBootstrap, DependsOnTheSeedAlone) {
  const std::vector<PairedUnit> units = normal_units(23, 0, 1);
  EXPECT_NE(paired_bootstrap(units, 8).interval->low, paired_bootstrap(units, 7).interval->low);
  testing::expect_same_with_any_threads([&] {
    const Interval interval = *paired_bootstrap(units, 7).interval;
    Tensor ends = Tensor::empty({2}, DType::kF64);
    ends.data<double>()[0] = interval.low;
    ends.data<double>()[1] = interval.high;
    return std::vector<Tensor>{ends};
  });
}

}  // namespace
}  // namespace polyhead
