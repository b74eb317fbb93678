// Elements of device tensors in kernels: f32 or bf16 in memory, f32 in registers.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>
#include <type_traits>

#include "framework/dtype.h"
#include "framework/error.h"

namespace polyhead {

template <>
constexpr DType dtype_of<__nv_bfloat16>() {
  return DType::kBf16;
}

}  // namespace polyhead

namespace polyhead::cuda {

__device__ __forceinline__ float to_float(float x) {
  return x;
}
__device__ __forceinline__ float to_float(__nv_bfloat16 x) {
  return __bfloat162float(x);
}

// Rounds to nearest even.
template <class T>
__device__ __forceinline__ T from_float(float x) {
  if constexpr (sizeof(T) == sizeof(float)) {
    return x;
  } else {
    return __float2bfloat16_rn(x);
  }
}

// What elements of T are computed in.
template <class T>
using Computed = std::conditional_t<std::is_same_v<T, double>, double, float>;

// Neighbouring elements that one thread reads or writes as one word of at most 16 bytes. Two bf16
// share a register until they are read: taken apart where they are loaded, they would be waited for
// before the next load is issued.
template <class T, int kCount = 16 / sizeof(T)>
class alignas(sizeof(T) * kCount) Pack {
 public:
  static constexpr int kSize = kCount;

  __device__ __forceinline__ Computed<T> operator[](int i) const {
    if constexpr (kPaired) {
      const unsigned pair = stored_[i / 2];
      return __uint_as_float(i % 2 == 0 ? pair << 16 : pair & 0xffff0000u);
    } else {
      return static_cast<Computed<T>>(stored_[i]);
    }
  }

  // The k-th four bytes of several.
  __device__ __forceinline__ unsigned word(int k) const {
    if constexpr (std::is_same_v<T, float>) {
      return __float_as_uint(stored_[k]);
    } else {
      static_assert(kPaired);
      return stored_[k];
    }
  }

  // Element i becomes value(i), rounded to nearest even.
  template <class Value>
  __device__ __forceinline__ void assign(const Value& value) {
#pragma unroll
    for (int i = 0; i < kStored; ++i) {
      if constexpr (kPaired) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(value(2 * i), value(2 * i + 1));
        stored_[i] = reinterpret_cast<const unsigned&>(pair);
      } else {
        stored_[i] = static_cast<T>(value(i));
      }
    }
  }

 private:
  static constexpr bool kPaired = sizeof(T) == 2 && kCount % 2 == 0;
  static constexpr int kStored = kPaired ? kCount / 2 : kCount;
  std::conditional_t<kPaired, unsigned, T> stored_[kStored];
};

template <class T, int kCount = 16 / sizeof(T)>
__device__ __forceinline__ Pack<T, kCount> load_pack(const T* address) {
  return *reinterpret_cast<const Pack<T, kCount>*>(address);
}

// Writes 16 or 8 bytes of device memory by one instruction. The compiler may write a class member
// by member, which takes a pass over memory a fifth longer.
__device__ __forceinline__ void store_words(const unsigned (&words)[4], void* address) {
  asm volatile(
      "st.global.v4.b32 [%0], {%1, %2, %3, %4};\n" ::"l"(__cvta_generic_to_global(address)),
      "r"(words[0]), "r"(words[1]), "r"(words[2]), "r"(words[3])
      : "memory");
}
__device__ __forceinline__ void store_words(const unsigned (&words)[2], void* address) {
  asm volatile("st.global.v2.b32 [%0], {%1, %2};\n" ::"l"(__cvta_generic_to_global(address)),
               "r"(words[0]), "r"(words[1])
               : "memory");
}

// To device memory.
template <class T, int kCount>
__device__ __forceinline__ void store_pack(const Pack<T, kCount>& pack, T* address) {
  constexpr int kWords = static_cast<int>(sizeof pack / sizeof(unsigned));
  if constexpr (kWords > 1 && !std::is_same_v<T, double>) {
    unsigned words[kWords];
#pragma unroll
    for (int k = 0; k < kWords; ++k) words[k] = pack.word(k);
    store_words(words, address);
  } else {
    *reinterpret_cast<Pack<T, kCount>*>(address) = pack;
  }
}

// Calls kernel.operator()<T>() with T = float or __nv_bfloat16, the types CUDA stores.
template <class Kernel>
decltype(auto) dispatch_float(DType dtype, Kernel&& kernel) {
  if (dtype == DType::kBf16) return kernel.template operator()<__nv_bfloat16>();
  POLYHEAD_CHECK(dtype == DType::kF32, "CUDA computes in f32 or bf16, not {}", name_of(dtype));
  return kernel.template operator()<float>();
}

}  // namespace polyhead::cuda
