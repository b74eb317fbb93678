#include "data/paired_bootstrap.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "framework/error.h"
#include "framework/random.h"

namespace polyhead {
namespace {

double resampled_mean(std::span<const PairedUnit> units, std::uint64_t seed,
                      std::uint64_t resample) {
  const auto count = static_cast<std::uint64_t>(units.size());
  double difference = 0, length = 0;
  for (std::uint64_t drawn = 0; drawn < count; drawn += 4) {
    const auto words = random_words(seed, resample, drawn / 4);
    for (std::uint64_t i = 0; i < std::min<std::uint64_t>(4, count - drawn); ++i) {
      const PairedUnit& unit = units[static_cast<std::size_t>((words[i] * count) >> 32)];
      difference += unit.difference;
      length += unit.length;
    }
  }
  return difference / length;
}

double percentile(const std::vector<double>& sorted, double percent) {
  const double place = percent / 100 * static_cast<double>(sorted.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, sorted.size() - 1);
  return std::lerp(sorted[below], sorted[above], place - static_cast<double>(below));
}

}  // namespace

PairedDifference paired_bootstrap(std::span<const PairedUnit> units, std::uint64_t seed) {
  POLYHEAD_CHECK(!units.empty() && units.size() < (std::uint64_t{1} << 32), "{} units",
                 units.size());
  double difference = 0, length = 0, wins = 0;
  for (const PairedUnit& unit : units) {
    POLYHEAD_CHECK(unit.length > 0, "a unit of length {}", unit.length);
    difference += unit.difference;
    length += unit.length;
    wins += unit.difference < 0 ? 1.0 : unit.difference == 0 ? 0.5 : 0.0;
  }
  PairedDifference result{difference / length, wins / static_cast<double>(units.size()), {}};
  if (units.size() < 2) return result;
  std::vector<double> means(kBootstrapResamples);
#pragma omp parallel for
  for (std::int64_t resample = 0; resample < kBootstrapResamples; ++resample) {
    means[static_cast<std::size_t>(resample)] =
        resampled_mean(units, seed, static_cast<std::uint64_t>(resample));
  }
  std::sort(means.begin(), means.end());
  result.interval = Interval{percentile(means, 2.5), percentile(means, 97.5)};
  return result;
}

}  // namespace polyhead
