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
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

// Identifies a stream by name, the same on all machines.
std::uint64_t stream_id(std::string_view name);

// A standard normal number (Box-Muller on 2 x 32 bits of the block index / 2).
double normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);
// Uniform in [0, 1).
double uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index);

}  // namespace polyhead
