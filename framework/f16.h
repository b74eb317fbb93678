// f16 (IEEE 754 binary16) on the host: checkpoints of others hold it, nothing computes in it.
#pragma once

#include <bit>
#include <cstdint>

#include "framework/dtype.h"

namespace polyhead {

struct F16 {
  std::uint16_t bits;
};

template <>
constexpr DType dtype_of<F16>() {
  return DType::kF16;
}

// Exact, subnormals and infinities included; a NaN keeps its sign and payload.
inline float to_float(F16 value) {
  constexpr std::uint32_t kLargestExponent = 31;  // of infinities and NaNs
  const std::uint32_t sign = (value.bits & 0x8000U) << 16;
  const std::uint32_t exponent = (value.bits >> 10) & 0x1FU;
  const std::uint32_t fraction = value.bits & 0x3FFU;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  // The biases are 15 and 127.
  const std::uint32_t wide_exponent = exponent == kLargestExponent ? 0xFFU : exponent + 127 - 15;
  return std::bit_cast<float>(sign | wide_exponent << 23 | fraction << 13);
}

// The nearest value, ties to even; what is out of range becomes infinite. A NaN keeps its sign.
inline F16 to_f16(float value) {
  constexpr float kSmallestNormal = 0x1p-14F, kRoundsToInfinity = 65520.0F;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 16) & 0x8000U);
  const float magnitude = std::bit_cast<float>(bits & 0x7FFFFFFFU);
  std::uint32_t rounded;
  if (!(magnitude < kRoundsToInfinity)) {
    rounded = magnitude != magnitude ? 0x7E00U : 0x7C00U;
  } else if (magnitude < kSmallestNormal) {
    // In units of the smallest subnormal, 2^-24, which the addition rounds to.
    rounded = std::bit_cast<std::uint32_t>(magnitude + 0.5F) - std::bit_cast<std::uint32_t>(0.5F);
  } else {
    // Rounds away the last 13 bits of the fraction; a carry goes into the exponent.
    const std::uint32_t wide = bits & 0x7FFFFFFFU;
    const std::uint32_t even = (wide >> 13) & 1U;
    rounded = ((wide + 0xFFFU + even) >> 13) - ((127U - 15U) << 10);
  }
  return {static_cast<std::uint16_t>(sign | rounded)};
}

}  // namespace polyhead
