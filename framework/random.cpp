#include "framework/random.h"

#include <cmath>
#include <numbers>

#include "xxhash.h"

namespace polyhead {

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t kMultiplier0 = 0xD2511F53, kMultiplier1 = 0xCD9E8D57;
  constexpr std::uint32_t kWeyl0 = 0x9E3779B9, kWeyl1 = 0xBB67AE85;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = kMultiplier0 * counter[0];
    const std::uint64_t product1 = kMultiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += kWeyl0;
    key[1] += kWeyl1;
  }
  return counter;
}

std::uint64_t stream_id(std::string_view name) {
  return XXH3_64bits(name.data(), name.size());
}

namespace {

constexpr double kTwoToMinus32 = 1.0 / 4294967296.0;

std::array<std::uint32_t, 4> block(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const auto low = [](std::uint64_t word) { return static_cast<std::uint32_t>(word); };
  const auto high = [](std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); };
  return philox4x32({low(index), high(index), low(stream), high(stream)}, {low(seed), high(seed)});
}

}  // namespace

double normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const std::array<std::uint32_t, 4> words = block(seed, stream, index / 2);
  const double radius = std::sqrt(-2.0 * std::log((words[0] + 0.5) * kTwoToMinus32));
  const double angle = 2.0 * std::numbers::pi * words[1] * kTwoToMinus32;
  return radius * (index % 2 == 0 ? std::cos(angle) : std::sin(angle));
}

double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return block(seed, stream, index)[0] * kTwoToMinus32;
}

}  // namespace polyhead
