// bf16 on the host: the upper half of an f32. Hosts store and convert it, they do not compute in
// it.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

#include "framework/dtype.h"

namespace polyhead {

struct Bf16 {
  std::uint16_t bits;
};

template <>
constexpr DType dtype_of<Bf16>() {
  return DType::kBf16;
}

inline float to_float(Bf16 value) {
  return std::bit_cast<float>(static_cast<std::uint32_t>(value.bits) << 16);
}

// Rounds to the nearest, ties to even.
inline Bf16 to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  // Rounding a NaN could carry into infinity: keep its sign and make it quiet.
  if (std::isnan(value)) return {static_cast<std::uint16_t>((bits >> 16) | 0x40)};
  const std::uint32_t to_even = (bits >> 16) & 1;
  return {static_cast<std::uint16_t>((bits + 0x7FFF + to_even) >> 16)};
}

}  // namespace polyhead
