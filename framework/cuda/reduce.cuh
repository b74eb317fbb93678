// Sums and maxima over the threads of a warp or a block, in an order fixed by their number.
#pragma once

namespace polyhead::cuda {

inline constexpr int kWarpSize = 32;

struct Sum {
  template <class T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
// NaN where either is NaN.
struct Max {
  __device__ __forceinline__ float operator()(float a, float b) const {
    return (a > b || a != a) ? a : b;
  }
};

// Every lane receives the result.
template <class T, class Combine>
__device__ __forceinline__ T warp_reduce(T value, Combine combine) {
#pragma unroll
  for (int distance = kWarpSize / 2; distance > 0; distance /= 2) {
    value = combine(value, __shfl_xor_sync(0xffffffffu, value, distance));
  }
  return value;
}

// Every thread receives the result. `scratch` holds one T per warp in shared memory and may be used
// again by the next call. All threads of a block of whole warps, at most 1024, take part.
template <class T, class Combine>
__device__ __forceinline__ T block_reduce(T value, Combine combine, T neutral, T* scratch) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpSize;
  const int warp = static_cast<int>(threadIdx.x) / kWarpSize;
  const int warps = static_cast<int>(blockDim.x) / kWarpSize;
  value = warp_reduce(value, combine);
  __syncthreads();
  if (lane == 0) scratch[warp] = value;
  __syncthreads();
  return warp_reduce(lane < warps ? scratch[lane] : neutral, combine);
}

}  // namespace polyhead::cuda
