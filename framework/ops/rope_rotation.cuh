// The rotation of two packs of a head on the device, for the op and for kernels that rotate what
// they are about to write: both give the same bits. Private to framework/ops.
#pragma once

#include "framework/cuda/element.cuh"

namespace polyhead::ops {

// Turns dimensions j of x with those of y, which lie half of the rotated dimensions behind, by the
// angles at `cos` and `sin`; `direction` is 1 or -1. x and y are packs or arrays, not the results.
template <class Values, class T, int kSize>
__device__ __forceinline__ void rotate_into(const float* cos, const float* sin, float direction,
                                            const Values& x, const Values& y,
                                            cuda::Pack<T, kSize>& first,
                                            cuda::Pack<T, kSize>& second) {
  float c[kSize], s[kSize];
  constexpr int kWidth = kSize < 4 ? kSize : 4;
#pragma unroll
  for (int begin = 0; begin < kSize; begin += kWidth) {
    const auto some_cos = cuda::load_pack<float, kWidth>(cos + begin);
    const auto some_sin = cuda::load_pack<float, kWidth>(sin + begin);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      c[begin + i] = some_cos[i];
      s[begin + i] = direction * some_sin[i];
    }
  }
  first.assign([&](int i) { return fmaf(x[i], c[i], -(y[i] * s[i])); });
  second.assign([&](int i) { return fmaf(y[i], c[i], x[i] * s[i]); });
}

// In place.
template <class T, int kSize>
__device__ __forceinline__ void rotate_packs(const float* cos, const float* sin, float direction,
                                             cuda::Pack<T, kSize>& first,
                                             cuda::Pack<T, kSize>& second) {
  const cuda::Pack<T, kSize> x = first, y = second;
  rotate_into(cos, sin, direction, x, y, first, second);
}

}  // namespace polyhead::ops
