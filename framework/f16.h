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

}  // namespace polyhead
