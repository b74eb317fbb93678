// Counter-based random numbers: a value is a pure function of (seed, stream, index), so any rank
// can make any slice of a tensor and all agree.
//
// Philox4x32-10 of Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011).
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace polyhead {

// The 128-bit counter and the 64-bit key of one block; returns four 32-bit words.
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
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

// The words of block `index` of a stream; kernels call it too.
constexpr std::array<std::uint32_t, 4> random_words(std::uint64_t seed, std::uint64_t stream,
                                                    std::uint64_t index) {
  const auto low = [](std::uint64_t word) { return static_cast<std::uint32_t>(word); };
  const auto high = [](std::uint64_t word) { return static_cast<std::uint32_t>(word >> 32); };
  return philox4x32({low(index), high(index), low(stream), high(stream)}, {low(seed), high(seed)});
}

// Identifies a stream by name, the same on all machines.
std::uint64_t stream_id(std::string_view name);

// A standard normal number: element index % 2 of the pair index / 2.
double normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);
// Two, which together cost little more than one (Box-Muller on 2 x 32 bits of the block `pair`).
std::array<double, 2> normal_pair(std::uint64_t seed, std::uint64_t stream, std::uint64_t pair);
// Uniform in [0, 1).
double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

}  // namespace polyhead
