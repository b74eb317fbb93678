#include "data/blend.h"

#include <algorithm>
#include <numeric>

#include "framework/error.h"

namespace polyhead {

std::vector<double> normalized(const std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  std::vector<double> shares;
  for (const double weight : weights) shares.push_back(weight / sum);
  return shares;
}

Blend::Blend(const std::vector<double>& weights, std::int64_t period) : counts_(weights.size(), 0) {
  POLYHEAD_CHECK(!weights.empty() && period > 0, "{} sources, period {}", weights.size(), period);
  const std::vector<double> shares = normalized(weights);
  pattern_.reserve(static_cast<std::size_t>(period));
  for (std::int64_t i = 0; i < period; ++i) {
    const auto position = static_cast<double>(std::max<std::int64_t>(i, 1));
    std::size_t chosen = 0;
    double largest = shares[0] * position - static_cast<double>(counts_[0]);
    for (std::size_t source = 1; source < shares.size(); ++source) {
      const double lag = shares[source] * position - static_cast<double>(counts_[source]);
      if (lag > largest) {
        largest = lag;
        chosen = source;
      }
    }
    pattern_.push_back({static_cast<std::int64_t>(chosen), counts_[chosen]++});
  }
}

Blend::Entry Blend::at(std::int64_t position) const {
  const auto period = static_cast<std::int64_t>(pattern_.size());
  const Entry entry = pattern_[static_cast<std::size_t>(position % period)];
  return {entry.source,
          position / period * counts_[static_cast<std::size_t>(entry.source)] + entry.index};
}

}  // namespace polyhead
