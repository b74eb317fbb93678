// Moments in bf16, rounded stochastically. An update changes a moment by 1 - beta of the distance
// to the gradient, which rounding to the nearest may lose every time; rounded up with the
// probability of what is cut off, moments are right on average.
//
// Both devices round by these functions, and the random bits depend on (seed, update, parameter,
// index in the whole parameter) alone: results depend on no layout, and a run goes on bitwise.
#pragma once

#include <array>
#include <bit>
#include <cstdint>

#include "framework/random.h"
#include "framework/slice_index.h"

namespace polyhead::ops {

// Which elements of which parameter an op's flat tensors hold.
struct MomentRounding {
  std::uint64_t seed = 0;
  std::uint64_t stream = 0;  // of the parameter
  SliceIndex slice;          // what this rank holds of it
  std::int64_t begin = 0;    // element of the slice that the tensors begin with

  // In the whole parameter.
  constexpr std::int64_t index(std::int64_t i) const {
    const std::int64_t local = begin + i;
    return slice.at(local / slice.columns, local % slice.columns);
  }
};

// Elements that share a block of random words.
inline constexpr std::int64_t kRoundedTogether = 4;

// Word i is that of element kRoundedTogether * block + i of the whole parameter.
constexpr std::array<std::uint32_t, kRoundedTogether> rounding_words(const MomentRounding& rounding,
                                                                     std::uint64_t update,
                                                                     std::int64_t block) {
  // The odd factor gives each update its own key, none that of the initial values.
  const std::uint64_t key = rounding.seed + update * 0x9E3779B97F4A7C15;
  return random_words(key, rounding.stream, static_cast<std::uint64_t>(block));
}
// The halves of a word, for either moment.
constexpr std::uint32_t first_moment_bits(std::uint32_t word) {
  return word & 0xFFFF;
}
constexpr std::uint32_t second_moment_bits(std::uint32_t word) {
  return word >> 16;
}

// One of the two bf16 numbers around `value`, by 16 random bits: the one further from zero with the
// probability of what lies between `value` and the nearer one, in units of their distance.
// Infinities and NaN stay.
constexpr float stochastic_bf16(float value, std::uint32_t random_bits) {
  constexpr std::uint32_t kExponent = 0x7F800000, kUpperHalf = 0xFFFF0000;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & kExponent) == kExponent) return value;
  return std::bit_cast<float>((bits + random_bits) & kUpperHalf);
}

}  // namespace polyhead::ops
