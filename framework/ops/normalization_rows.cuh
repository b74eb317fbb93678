// What the norms' kernels share: rows given to teams of threads. Private to framework/ops.
//
// A team, some lanes of a warp or a whole block, works on one row at a time. Thread t of a team of
// L keeps the row's words t, t + L, ... of 16 bytes in registers.
#pragma once

#include <bit>

#include "framework/cuda/element.cuh"
#include "framework/cuda/launch.cuh"
#include "framework/cuda/reduce.cuh"
#include "framework/tensor.h"

namespace polyhead::ops::kernel::norms {

inline constexpr int kBlockThreads = 256;  // of blocks of several teams
inline constexpr int kMostTeamWarps = 16;
inline constexpr int kMostLanes = kMostTeamWarps * cuda::kWarpSize;
inline constexpr int kMostWords = 4;    // that a thread keeps
inline constexpr int kShortRow = 1024;  // elements; read one by one, shorter rows take a warp

// `words`: how many words of a row a thread keeps: 1, 2, 3, kMostWords; or 0, where a row is read
// element by element because it is too long or not made of aligned words.
struct TeamShape {
  int words, lanes, threads;

  int teams() const { return threads / lanes; }
};

inline TeamShape team_shape(int columns, int elements_per_word, bool aligned) {
  const int words = columns / elements_per_word;
  if (!aligned || columns % elements_per_word != 0 || words > kMostWords * kMostLanes) {
    return {0, columns <= kShortRow ? cuda::kWarpSize : kBlockThreads, kBlockThreads};
  }
  if (words <= cuda::kWarpSize) {
    return {1, static_cast<int>(std::bit_ceil(static_cast<unsigned>(words))), kBlockThreads};
  }
  // Three in a warp rather than two in two warps, of which one would be half idle and both wait
  // for each other.
  if (words > 2 * cuda::kWarpSize && words <= 3 * cuda::kWarpSize) {
    return {3, cuda::kWarpSize, kBlockThreads};
  }
  const int each = words <= 2 * kMostLanes ? 2 : kMostWords;
  const int warps = (words + each * cuda::kWarpSize - 1) / (each * cuda::kWarpSize);
  const int lanes = warps * cuda::kWarpSize;
  return {each, lanes, warps == 1 ? kBlockThreads : lanes};
}

// Rows of a matrix; no data where a tensor is absent.
template <class T>
struct Rows {
  T* data = nullptr;
  std::int64_t stride = 0;

  __host__ __device__ explicit operator bool() const { return data != nullptr; }
  __device__ T* operator[](std::int64_t row) const { return data + row * stride; }
};

// A thread's place among the teams of its block.
class Team {
 public:
  using Scratch = float[2 * kMostTeamWarps];

  __device__ Team(int team_lanes, Scratch& shared)
      : lanes(team_lanes),
        lane(static_cast<int>(threadIdx.x) % team_lanes),
        index(static_cast<int>(threadIdx.x) / team_lanes),
        count(static_cast<int>(blockDim.x) / team_lanes),
        scratch_(shared) {}

  // The sum over the team, for all its threads. Whole warps take part. The halves of the scratch
  // memory take turns, so that one barrier is enough.
  __device__ __forceinline__ float sum(float value) {
    if (lanes < cuda::kWarpSize) {
      for (int distance = lanes / 2; distance > 0; distance /= 2) {
        value += __shfl_xor_sync(0xffffffffu, value, distance);
      }
      return value;
    }
    value = cuda::warp_reduce(value, cuda::Sum{});
    if (lanes == cuda::kWarpSize) return value;
    begin_ = kMostTeamWarps - begin_;
    float* const half = scratch_ + begin_;
    const int warp_lane = lane % cuda::kWarpSize;
    if (warp_lane == 0) half[lane / cuda::kWarpSize] = value;
    __syncthreads();
    return cuda::warp_reduce(warp_lane < lanes / cuda::kWarpSize ? half[warp_lane] : 0.0f,
                             cuda::Sum{});
  }

  const int lanes, lane, index, count;

 private:
  float* scratch_;
  int begin_ = 0;
};

// 16 bytes of a row. Unlike those of a Pack, bf16 elements stay two in a register until they are
// read.
template <class T>
struct alignas(16) Word {
  static constexpr int kSize = 16 / sizeof(T);
  unsigned bits[4];

  __device__ __forceinline__ float operator[](int i) const {
    if constexpr (kSize == 4) {
      return __uint_as_float(bits[i]);
    } else {
      return __uint_as_float(i % 2 == 0 ? bits[i / 2] << 16 : bits[i / 2] & 0xffff0000u);
    }
  }

  // Element i becomes value(i).
  template <class Value>
  __device__ __forceinline__ void assign(const Value& value) {
#pragma unroll
    for (int k = 0; k < 4; ++k) {
      if constexpr (kSize == 4) {
        bits[k] = __float_as_uint(value(k));
      } else {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(value(2 * k), value(2 * k + 1));
        bits[k] = reinterpret_cast<const unsigned&>(pair);
      }
    }
  }
};

// A thread's words of a row.
template <class T, int kWords>
struct Words {
  Word<T> word[kWords];

  __device__ __forceinline__ float operator()(int j, int i) const { return word[j][i]; }
};

// Calls visit(j, column) for the thread's j-th word, which begins at `column`.
template <class T, int kWords, class Visit>
__device__ __forceinline__ void for_each_word(const Team& team, int columns, const Visit& visit) {
#pragma unroll
  for (int j = 0; j < kWords; ++j) {
    const int column = (team.lane + j * team.lanes) * Word<T>::kSize;
    if (column < columns) visit(j, column);
  }
}

// Calls visit(j, i) for element i of the thread's j-th word.
template <class T, int kWords, class Visit>
__device__ __forceinline__ void for_each_element(const Team& team, int columns,
                                                 const Visit& visit) {
  for_each_word<T, kWords>(team, columns, [&](int j, int) {
#pragma unroll
    for (int i = 0; i < Word<T>::kSize; ++i) visit(j, i);
  });
}

// Zeros stand behind the row's end; `columns` is 0 for a row that is not there.
template <class T, int kWords>
__device__ __forceinline__ Words<T, kWords> load_words(const T* from, const Team& team,
                                                       int columns) {
  Words<T, kWords> words{};
  for_each_word<T, kWords>(team, columns, [&](int j, int column) {
    words.word[j] = *reinterpret_cast<const Word<T>*>(from + column);
  });
  return words;
}

// Writes value(j, i) as element i of the thread's j-th word.
template <class T, int kWords, class Value>
__device__ __forceinline__ void store_words(const Team& team, int columns, const Value& value,
                                            T* to) {
  for_each_word<T, kWords>(team, columns, [&](int j, int column) {
    Word<T> word;
    word.assign([&](int i) { return value(j, i); });
    cuda::store_words(word.bits, to + column);
  });
}

}  // namespace polyhead::ops::kernel::norms
