// Kernels that go over a tensor pack by pack: each thread has a few packs of neighbouring elements,
// of 16 bytes where the addresses allow it and of one element otherwise, and loads all of them
// before it stores the first.
#pragma once

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/cuda/element.cuh"
#include "framework/cuda/launch.cuh"
#include "framework/tensor.h"

namespace polyhead::cuda {

inline constexpr std::size_t kPackBytes = 16;

// Whether every row of x begins at a multiple of `bytes`.
inline bool is_aligned(const Tensor& x, std::size_t bytes = kPackBytes) {
  const auto stride = static_cast<std::size_t>(x.row_stride()) * size_of(x.dtype());
  return reinterpret_cast<std::uintptr_t>(x.raw()) % bytes == 0 &&
         (x.rows() <= 1 || stride % bytes == 0);
}

// Calls body.operator()<kSize>() with the elements of a pack: 16 bytes of them, or 1.
template <class T, class Body>
void with_pack_size(bool aligned, Body&& body) {
  if (aligned) {
    body.template operator()<static_cast<int>(kPackBytes / sizeof(T))>();
  } else {
    body.template operator()<1>();
  }
}
template <class T>
constexpr bool is_whole_packs(std::int64_t columns) {
  return columns * static_cast<std::int64_t>(sizeof(T)) % kPackBytes == 0;
}

// Division of many numbers by one: a multiplication each. Exact while number * divisor < 2^64.
class Divider {
 public:
  explicit Divider(std::int64_t divisor)
      : divisor_(divisor),
        reciprocal_(divisor > 1 ? ~std::uint64_t{0} / static_cast<std::uint64_t>(divisor) + 1 : 0),
        if_one_(divisor > 1 ? 0 : ~std::int64_t{0}) {}

  struct Result {
    std::int64_t quotient, remainder;
  };
  __device__ __forceinline__ Result operator()(std::int64_t number) const {
    const std::int64_t quotient =
        static_cast<std::int64_t>(__umul64hi(number, reciprocal_)) + (number & if_one_);
    return {quotient, number - quotient * divisor_};
  }

 private:
  std::int64_t divisor_;
  std::uint64_t reciprocal_;  // 2^64 / divisor, rounded up; 0 for the divisor 1
  std::int64_t if_one_;       // all bits set for the divisor 1, else 0
};

inline constexpr int kPackThreads = 256;

template <class Body>
__global__ void __launch_bounds__(kPackThreads)
    pack_kernel(const std::int64_t count, const __grid_constant__ Body body) {
  wait_for_work_before();
  // The last packs first: what the kernel before wrote last is still in the L2 cache, and so are
  // the first packs for the kernel behind.
  const std::int64_t block = gridDim.x - 1 - blockIdx.x;
  const std::int64_t first = block * (kPackThreads * Body::kBatch) + threadIdx.x;
  typename Body::Input input[Body::kBatch];
#pragma unroll
  for (int i = 0; i < Body::kBatch; ++i) {
    const std::int64_t index = first + i * kPackThreads;
    if (index < count) input[i] = body.load(index);
  }
#pragma unroll
  for (int i = 0; i < Body::kBatch; ++i) {
    const std::int64_t index = first + i * kPackThreads;
    if (index < count) body.store(index, input[i]);
  }
}

// body.load(index) and then body.store(index, input) for the packs 0, 1, ... count - 1, kBatch of
// them in each thread. `name` tells the kernel in messages.
template <class Body>
void for_each_pack(const char* name, std::int64_t count, const Body& body) {
  if (count == 0) return;
  constexpr std::int64_t kEach = kPackThreads * Body::kBatch;
  const std::int64_t blocks = (count + kEach - 1) / kEach;
  POLYHEAD_CHECK(blocks < std::int64_t{1} << 31, "{}: {} packs", name, count);
  launch(name, pack_kernel<Body>, static_cast<unsigned>(blocks), kPackThreads, 0, count, body);
}

}  // namespace polyhead::cuda
