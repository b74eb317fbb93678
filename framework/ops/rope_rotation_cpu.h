// The rotation of one head on the CPU, for the op and for what rotates as it copies. Private to
// framework/ops.
#pragma once

#include <cstdint>

namespace polyhead::ops {

// Turns x[j] with x[half + j] by the angle with cos[j] and sin[j]; direction is 1 or -1.
template <class T>
void rotate(std::int64_t half, const T* cos, const T* sin, T direction, T* x) {
  T* const y = x + half;
#pragma omp simd
  for (std::int64_t j = 0; j < half; ++j) {
    const T first = x[j], second = y[j], s = direction * sin[j];
    x[j] = first * cos[j] - second * s;
    y[j] = second * cos[j] + first * s;
  }
}

}  // namespace polyhead::ops
