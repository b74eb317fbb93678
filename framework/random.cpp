#include "framework/random.h"

#include <cmath>
#include <numbers>

#include "xxhash.h"

namespace polyhead {

std::uint64_t stream_id(std::string_view name) {
  return XXH3_64bits(name.data(), name.size());
}

namespace {

constexpr double kTwoToMinus32 = 1.0 / 4294967296.0;

}  // namespace

double normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return normal_pair(seed, stream, index / 2)[index % 2];
}

std::array<double, 2> normal_pair(std::uint64_t seed, std::uint64_t stream, std::uint64_t pair) {
  const std::array<std::uint32_t, 4> words = random_words(seed, stream, pair);
  const double radius = std::sqrt(-2.0 * std::log((words[0] + 0.5) * kTwoToMinus32));
  const double angle = 2.0 * std::numbers::pi * words[1] * kTwoToMinus32;
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return random_words(seed, stream, index)[0] * kTwoToMinus32;
}

}  // namespace polyhead
