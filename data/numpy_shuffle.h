// numpy.random.RandomState(seed).shuffle, bit for bit.
//
// std::mt19937 seeded with an integer gives RandomState's raw stream; positions are drawn by
// masking and rejecting (random_interval), 64 bits at a time, high word first, above 2^32.
#pragma once

#include <bit>
#include <cstdint>
#include <random>
#include <span>
#include <utility>

namespace polyhead {

// Uniform in [0, largest].
inline std::uint64_t numpy_draw(std::mt19937& generator, std::uint64_t largest) {
  const std::uint64_t mask = std::bit_ceil(largest + 1) - 1;
  std::uint64_t value;
  do {
    value = generator();
    if (largest > 0xFFFFFFFFu) value = value << 32 | generator();
    value &= mask;
  } while (value > largest);
  return value;
}

template <class T>
void numpy_shuffle(std::span<T> values, std::mt19937& generator) {
  for (std::size_t i = values.size(); i-- > 1;) {
    std::swap(values[i], values[numpy_draw(generator, i)]);
  }
}

}  // namespace polyhead
