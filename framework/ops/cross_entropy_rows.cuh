// A row of logits in the hands of a block: its packs, several at once, and their softmax. Private
// to framework/ops.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

#include "framework/cuda/element.cuh"
#include "framework/cuda/math.cuh"
#include "framework/cuda/reduce.cuh"

namespace polyhead::ops::kernel::logit_rows {

using cuda::Pack;

inline constexpr int kThreads = 512;  // of a block, which has a row or its part of one
inline constexpr int kBatch = 4;      // packs that a thread loads at once
inline constexpr std::size_t kScratchBytes = kThreads / cuda::kWarpSize * sizeof(float);  // of sums

// A row of any address and width: packs at 16-byte borders, and the few elements around them.
template <class T>
class Row {
 public:
  static constexpr int kSize = Pack<T>::kSize, kStep = kThreads * kSize;

  __device__ __forceinline__ Row(const T* row, int columns) : row_(row), columns_(columns) {
    const auto beyond_border = static_cast<int>(reinterpret_cast<std::uintptr_t>(row) % 16);
    head_ = min((16 - beyond_border) % 16 / static_cast<int>(sizeof(T)), columns);
    packs_ = (columns - head_) / kSize;
  }

  // Calls visit(column, packs) for all whole packs, of which a thread loads several, kStep columns
  // from one to the next, before it visits them, and single(column) for the other elements.
  template <class Visit, class Single>
  __device__ __forceinline__ void for_each_batch(const Visit& visit, const Single& single) const {
    int pack = static_cast<int>(threadIdx.x);
    while (pack + (kBatch - 1) * kThreads < packs_) visit_next<kBatch>(visit, pack);
#pragma unroll
    for (int rest = 1; rest < kBatch; ++rest) {
      if (pack < packs_) visit_next<1>(visit, pack);
    }
    const int place = static_cast<int>(threadIdx.x);
    const int column = place < head_ ? place : place + packs_ * kSize;
    if (column < columns_) single(column);
  }

  // The same with visit(column, pack) for each.
  template <class Visit, class Single>
  __device__ __forceinline__ void for_each(const Visit& visit, const Single& single) const {
    for_each_batch(
        [&]<int kCount>(int column, const Pack<T>(&packs)[kCount]) {
#pragma unroll
          for (int k = 0; k < kCount; ++k) visit(column + k * kStep, packs[k]);
        },
        single);
  }

 private:
  template <int kCount, class Visit>
  __device__ __forceinline__ void visit_next(const Visit& visit, int& pack) const {
    Pack<T> packs[kCount];
    const int column = head_ + pack * kSize;
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
      packs[k] = cuda::load_pack<T, kSize>(row_ + column + k * kStep);
    }
    visit(column, packs);
    pack += kCount * kThreads;
  }

  const T* row_;
  int columns_, head_, packs_;
};

// NaNs are skipped.
template <int kCount>
__device__ __forceinline__ float largest(const Pack<float> (&packs)[kCount]) {
  float largest = packs[0][0];
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
#pragma unroll
    for (int i = 0; i < Pack<float>::kSize; ++i) largest = fmaxf(largest, packs[k][i]);
  }
  return largest;
}
template <int kCount>
__device__ __forceinline__ float largest(const Pack<__nv_bfloat16> (&packs)[kCount]) {
  const auto pair = [&](int k, int i) {
    const unsigned word = packs[k].word(i);
    return reinterpret_cast<const __nv_bfloat162&>(word);
  };
  __nv_bfloat162 largest = pair(0, 0);
#pragma unroll
  for (int k = 0; k < kCount; ++k) {
#pragma unroll
    for (int i = 0; i < Pack<__nv_bfloat16>::kSize / 2; ++i) largest = __hmax2(largest, pair(k, i));
  }
  return fmaxf(__low2float(largest), __high2float(largest));
}

// Of the elements one thread has seen. The sum is rescaled where the maximum rises (Milakov and
// Gimelshein 2018). fmaxf skips a NaN, which reaches the sum instead.
template <class T>
class Softmax {
 public:
  template <int kCount>
  __device__ __forceinline__ void add(const Pack<T> (&packs)[kCount]) {
    const float origin = raise(largest(packs));
#pragma unroll
    for (int k = 0; k < kCount; ++k) {
#pragma unroll
      for (int i = 0; i < Pack<T>::kSize; ++i) sum_ += cuda::exponential<T>(packs[k][i], origin);
    }
  }
  __device__ __forceinline__ void add(float logit) {
    const float origin = raise(logit);
    sum_ += cuda::exponential<T>(logit, origin);
  }

  // Of all threads of the block.
  __device__ __forceinline__ float2 reduce() const {
    __shared__ float scratch[kScratchBytes / sizeof(float)];
    const auto larger = [](float a, float b) { return fmaxf(a, b); };
    const float maximum = cuda::block_reduce(maximum_, larger, -kInfinity, scratch);
    const float part = maximum_ == maximum ? sum_ : sum_ * cuda::exponential<T>(maximum_ - maximum);
    return {maximum, cuda::block_reduce(part, cuda::Sum{}, 0.0f, scratch)};
  }

 private:
  static constexpr float kInfinity = std::numeric_limits<float>::infinity();

  // To `logit`, if it is larger; gives the new maximum, from which exponents are counted.
  __device__ __forceinline__ float raise(float logit) {
    const float raised = fmaxf(maximum_, logit);
    // While all are -inf, their distance from the maximum is not a number: exp(-inf - 0) is 0.
    const float origin = raised == -kInfinity ? 0.0f : raised;
    sum_ *= cuda::exponential<T>(maximum_, origin);
    maximum_ = raised;
    return origin;
  }

  float maximum_ = -kInfinity;
  float sum_ = 0;  // of exp(logit - maximum)
};

// The maximum and the sum of all parts, each of which has its own maximum. Those of an empty part
// are -inf and 0.
template <class T>
__device__ __forceinline__ float2 combine(const float2* parts, int count) {
  float2 all = parts[0];
  for (int i = 1; i < count; ++i) all.x = fmaxf(all.x, parts[i].x);
  all.y = 0;
  for (int i = 0; i < count; ++i) {
    const float2 part = parts[i];
    all.y += part.x == all.x ? part.y : part.y * cuda::exponential<T>(part.x - all.x);
  }
  return all;
}

}  // namespace polyhead::ops::kernel::logit_rows
