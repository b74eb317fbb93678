// Functions whose accuracy follows the dtype of their result: f32 to its last bits; where the
// result is rounded to bf16, the hardware's approximations, whose relative error of 2^-22 (for
// exponents of moderate size) is far below the 2^-9 of that rounding.
#pragma once

namespace polyhead::cuda {

// e^x
template <class T>
__device__ __forceinline__ float exponential(float x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return expf(x);
  } else {
    constexpr float kLog2E = 1.4426950408889634f;
    float power;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * kLog2E));
    return power;
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
