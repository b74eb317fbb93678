// The norms' forward kernels. Private to framework/ops.
//
// kCentered: LayerNorm. RMSNorm is the same around a mean of 0, without a bias.
#pragma once

#include "framework/ops/normalization_rows.cuh"

namespace polyhead::ops::kernel::norms {

template <class T>
struct Forward {
  Rows<const T> x, addend;
  const T* weight = nullptr;
  const T* bias = nullptr;
  float offset = 0;  // added to the weight
  float epsilon = 0;
  Rows<T> sum, y;
  Rows<float> statistics;   // written, (N, 1): rstd; or (N, 2): mean and rstd
  Rows<const float> given;  // in their place: those to make y from
  std::int64_t rows = 0;
  int columns = 0;
};

struct Statistics {
  float mean = 0, rstd = 0;
};

template <bool kCentered>
__device__ __forceinline__ Statistics load_statistics(const float* from) {
  return kCentered ? Statistics{from[0], from[1]} : Statistics{0, from[0]};
}
template <bool kCentered>
__device__ __forceinline__ void store_statistics(const Statistics& statistics, float* to) {
  if (kCentered) *to++ = statistics.mean;
  *to = statistics.rstd;
}

template <bool kCentered>
__device__ __forceinline__ float deviation(float x, const Statistics& statistics) {
  return kCentered ? x - statistics.mean : x;
}

// Nothing here leaves it to the compiler whether to fuse a product with a sum: whoever makes y
// makes the same bits.
template <bool kCentered>
__device__ __forceinline__ float output(float x, const Statistics& statistics, float weight,
                                        float bias) {
  const float normalized = deviation<kCentered>(x, statistics) * statistics.rstd;
  return kCentered ? fmaf(normalized, weight, bias) : normalized * weight;
}

// Threads of a block at most, and how many such blocks a multiprocessor has registers for.
constexpr int forward_threads(int words) {
  return words == 1 || words == 3 ? kBlockThreads : kMostLanes;
}
constexpr int forward_blocks(int words) {
  return words == 1 ? 6 : words == 2 ? 2 : words == 3 ? 4 : 1;
}

template <class T, bool kCentered, int kWords>
__global__ void __launch_bounds__(forward_threads(kWords), forward_blocks(kWords))
    forward_kernel(const Forward<T> a, int lanes) {
  cuda::wait_for_work_before();
  __shared__ Team::Scratch scratch;
  Team team(lanes, scratch);
  const float inverse_columns = 1.0f / static_cast<float>(a.columns);

  // The teams of a block go on together, for whole warps take part in sums. The last rows come
  // first: those that the kernel before wrote last are still in the L2 cache.
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * team.count;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * team.count; first < a.rows;
       first += step) {
    const std::int64_t row = a.rows - 1 - first - team.index;
    const bool present = row >= 0;
    const int columns = present ? a.columns : 0;
    auto x = load_words<T, kWords>(a.x[row], team, columns);
    if (a.addend) {
      const auto addend = load_words<T, kWords>(a.addend[row], team, columns);
      for_each_word<T, kWords>(team, columns, [&](int j, int column) {
        Word<T> sum;
        sum.assign([&](int i) { return x(j, i) + addend(j, i); });
        x.word[j] = sum;
        cuda::store_words(sum.bits, a.sum[row] + column);
      });
    }

    Statistics statistics;
    if (a.given) {
      if (present) statistics = load_statistics<kCentered>(a.given[row]);
    } else {
      if (kCentered) {
        float sum = 0;
        for_each_element<T, kWords>(team, columns, [&](int j, int i) { sum += x(j, i); });
        statistics.mean = team.sum(sum) * inverse_columns;
      }
      float squares = 0;
      for_each_element<T, kWords>(team, columns, [&](int j, int i) {
        const float distance = deviation<kCentered>(x(j, i), statistics);
        squares = fmaf(distance, distance, squares);
      });
      statistics.rstd = rsqrtf(team.sum(squares) * inverse_columns + a.epsilon);
      if (team.lane == 0 && present) store_statistics<kCentered>(statistics, a.statistics[row]);
    }

    // Late, for want of registers: they come from the L1 cache.
    const auto weight = load_words<T, kWords>(a.weight, team, columns);
    const auto bias = load_words<T, kWords>(a.bias, team, kCentered ? columns : 0);
    const auto y = [&](int j, int i) {
      return output<kCentered>(x(j, i), statistics, weight(j, i) + a.offset, bias(j, i));
    };
    store_words<T, kWords>(team, columns, y, a.y[row]);
  }
}

template <class T, bool kCentered>
__global__ void __launch_bounds__(kBlockThreads)
    forward_elements_kernel(const Forward<T> a, int lanes) {
  cuda::wait_for_work_before();
  __shared__ Team::Scratch scratch;
  Team team(lanes, scratch);
  const float inverse_columns = 1.0f / static_cast<float>(a.columns);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * team.count;
  for (std::int64_t row = static_cast<std::int64_t>(blockIdx.x) * team.count + team.index;
       row < a.rows; row += step) {
    const T* x = a.x[row];
    if (a.addend) {
      const T* const addend = a.addend[row];
      T* const sum = a.sum[row];
      for (int i = team.lane; i < a.columns; i += team.lanes) {
        sum[i] = cuda::from_float<T>(cuda::to_float(x[i]) + cuda::to_float(addend[i]));
      }
      x = sum;
    }

    Statistics statistics;
    if (a.given) {
      statistics = load_statistics<kCentered>(a.given[row]);
    } else {
      if (kCentered) {
        float sum = 0;
        for (int i = team.lane; i < a.columns; i += team.lanes) sum += cuda::to_float(x[i]);
        statistics.mean = team.sum(sum) * inverse_columns;
      }
      float squares = 0;
      for (int i = team.lane; i < a.columns; i += team.lanes) {
        const float distance = deviation<kCentered>(cuda::to_float(x[i]), statistics);
        squares = fmaf(distance, distance, squares);
      }
      statistics.rstd = rsqrtf(team.sum(squares) * inverse_columns + a.epsilon);
      if (team.lane == 0) store_statistics<kCentered>(statistics, a.statistics[row]);
    }

    T* const y = a.y[row];
    for (int i = team.lane; i < a.columns; i += team.lanes) {
      const float bias = kCentered ? cuda::to_float(a.bias[i]) : 0.0f;
      y[i] = cuda::from_float<T>(output<kCentered>(cuda::to_float(x[i]), statistics,
                                                   cuda::to_float(a.weight[i]) + a.offset, bias));
    }
  }
}

}  // namespace polyhead::ops::kernel::norms
