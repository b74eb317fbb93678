// Functions whose accuracy follows the dtype of their result: f32 to its last bits; where the
// result is rounded to bf16, the hardware's approximations, whose relative error of 2^-22 (for
// exponents of moderate size) is far below the 2^-9 of that rounding.
#pragma once

namespace polyhead::cuda {

inline constexpr float kLog2E = 1.4426950408889634f;

// 2^x to 2 units in the last place; subnormal results are 0.
__device__ __forceinline__ float power_of_two(float x) {
  float power;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x));
  return power;
}

// e^x
template <class T>
__device__ __forceinline__ float exponential(float x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return expf(x);
  } else {
    return power_of_two(x * kLog2E);
  }
}

// e^(x - origin); for bf16 one instruction less than of their difference.
template <class T>
__device__ __forceinline__ float exponential(float x, float origin) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return expf(x - origin);
  } else {
    return power_of_two(fmaf(x, kLog2E, -origin * kLog2E));
  }
}

// 1 / (1 + e^-x)
template <class T>
__device__ __forceinline__ float sigmoid(float x) {
  const float denominator = 1.0f + exponential<T>(-x);
  if constexpr (sizeof(T) == sizeof(float)) {
    return 1.0f / denominator;
  } else {
    float reciprocal;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(reciprocal) : "f"(denominator));
    return reciprocal;
  }
}

}  // namespace polyhead::cuda
