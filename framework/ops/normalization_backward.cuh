// The norms' backward kernels: dx, and for each block the sums over its rows that make dweight and
// dbias. Private to framework/ops.
//
// With g = dy * weight and n the normalised x:
//   dx = rstd (g - mean(g) - n mean(g n)) + dresidual;  dweight += sum of dy n;  dbias += sum of dy
#pragma once

#include "framework/ops/normalization_forward.cuh"

namespace polyhead::ops::kernel::norms {

template <class T>
struct Backward {
  Rows<const T> dy, x, dresidual;
  const T* weight = nullptr;
  float offset = 0;  // added to the weight
  Rows<const float> statistics;
  Rows<T> dx;
  Rows<float> partial;  // of dweight, then of dbias; a row from each block or, by elements, team
  std::int64_t rows = 0;
  int columns = 0;
};

// mean(g), 0 for RMSNorm, and mean(g n).
template <bool kCentered>
struct GradientMeans {
  float gradient = 0, product = 0;

  __device__ __forceinline__ void add(float g, float n) {
    if (kCentered) gradient += g;
    product = fmaf(g, n, product);
  }
  __device__ __forceinline__ void finish(Team& team, float inverse_columns) {
    if (kCentered) gradient = team.sum(gradient) * inverse_columns;
    product = team.sum(product) * inverse_columns;
  }
  __device__ __forceinline__ float dx(float g, float n, float rstd, float dresidual) const {
    const float centered = kCentered ? g - gradient : g;
    return fmaf(rstd, fmaf(-n, product, centered), dresidual);
  }
};

template <class T, int kWords>
struct BackwardRow {
  Words<T, kWords> dy, x, dresidual;
  Statistics statistics;
};

template <class T, bool kCentered, int kWords>
__device__ __forceinline__ BackwardRow<T, kWords> load_row(const Backward<T>& a, const Team& team,
                                                           std::int64_t row) {
  const int columns = row >= 0 ? a.columns : 0;
  BackwardRow<T, kWords> in;
  in.dy = load_words<T, kWords>(a.dy[row], team, columns);
  in.x = load_words<T, kWords>(a.x[row], team, columns);
  in.dresidual = load_words<T, kWords>(a.dresidual[row], team, a.dresidual ? columns : 0);
  if (row >= 0) in.statistics = load_statistics<kCentered>(a.statistics[row]);
  return in;
}

// Sums over rows of a thread's columns.
template <class T, int kWords>
struct ColumnSums {
  float of[kWords][Word<T>::kSize] = {};
};

// Adds the sums of the block's teams in their order and writes them to `total`. `shared` has room
// for a row of each team, if there are several.
template <class T, int kWords>
__device__ __forceinline__ void store_sums(const ColumnSums<T, kWords>& sums, const Team& team,
                                           int columns, float* shared, float* total) {
  float* const own = team.count == 1 ? total : shared + team.index * columns;
  for_each_word<T, kWords>(team, columns, [&](int j, int column) {
#pragma unroll
    for (int i = 0; i < Word<T>::kSize; i += 4) {
      const float* const four = sums.of[j] + i;
      *reinterpret_cast<float4*>(own + column + i) =
          make_float4(four[0], four[1], four[2], four[3]);
    }
  });
  if (team.count == 1) return;
  __syncthreads();
  for (int column = static_cast<int>(threadIdx.x); column < columns; column += kBlockThreads) {
    float sum = 0;
    for (int index = 0; index < team.count; ++index) sum += shared[index * columns + column];
    total[column] = sum;
  }
  __syncthreads();
}

// Threads of a block at most, and how many such blocks a multiprocessor has registers for.
constexpr int backward_threads(int words) {
  return words == 1 || words == 3 ? kBlockThreads : kMostLanes;
}
constexpr int backward_blocks(int words) {
  return words == 1 ? 3 : words == 3 ? 2 : 1;
}

template <class T, bool kCentered, int kWords>
__global__ void __launch_bounds__(backward_threads(kWords), backward_blocks(kWords))
    backward_kernel(const Backward<T> a, int lanes) {
  cuda::wait_for_work_before();
  __shared__ Team::Scratch scratch;
  extern __shared__ float4 shared_sums[];
  Team team(lanes, scratch);
  const float inverse_columns = 1.0f / static_cast<float>(a.columns);
  ColumnSums<T, kWords> dweight, dbias;

  // The teams of a block go on together, for whole warps take part in sums. The last rows come
  // first, as in the forward pass. The next row is on its way while one is computed, unless the
  // registers have no room for it.
  constexpr bool kAhead = kWords < 3;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * team.count;
  std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * team.count;
  const std::int64_t last_row = a.rows - 1 - team.index;
  BackwardRow<T, kWords> next;
  if (kAhead) next = load_row<T, kCentered, kWords>(a, team, last_row - first);
  for (; first < a.rows; first += step) {
    const std::int64_t row = last_row - first;
    const int columns = row >= 0 ? a.columns : 0;
    const auto in = kAhead ? next : load_row<T, kCentered, kWords>(a, team, row);
    if (kAhead) next = load_row<T, kCentered, kWords>(a, team, row - step);
    const auto weight = load_words<T, kWords>(a.weight, team, columns);
    const float rstd = in.statistics.rstd;
    const auto normalized = [&](int j, int i) {
      return deviation<kCentered>(in.x(j, i), in.statistics) * rstd;
    };
    const auto scaled_gradient = [&](int j, int i) {
      return in.dy(j, i) * (weight(j, i) + a.offset);
    };

    GradientMeans<kCentered> means;
    for_each_element<T, kWords>(team, columns, [&](int j, int i) {
      const float n = normalized(j, i);
      means.add(scaled_gradient(j, i), n);
      dweight.of[j][i] = fmaf(in.dy(j, i), n, dweight.of[j][i]);
      if (kCentered) dbias.of[j][i] += in.dy(j, i);
    });
    means.finish(team, inverse_columns);

    const auto dx = [&](int j, int i) {
      return means.dx(scaled_gradient(j, i), normalized(j, i), rstd, in.dresidual(j, i));
    };
    store_words<T, kWords>(team, columns, dx, a.dx[row]);
  }

  float* const shared = reinterpret_cast<float*>(shared_sums);
  float* const partial = a.partial[blockIdx.x];
  store_sums(dweight, team, a.columns, shared, partial);
  if (kCentered) store_sums(dbias, team, a.columns, shared, partial + a.columns);
}

template <class T, bool kCentered>
__global__ void __launch_bounds__(kBlockThreads)
    backward_elements_kernel(const Backward<T> a, int lanes) {
  cuda::wait_for_work_before();
  __shared__ Team::Scratch scratch;
  Team team(lanes, scratch);
  const float inverse_columns = 1.0f / static_cast<float>(a.columns);
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * team.count;
  const std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * team.count + team.index;
  float* const dweight = a.partial[first];
  float* const dbias = dweight + a.columns;
  for (int i = team.lane; i < a.columns; i += team.lanes) {
    dweight[i] = 0;
    if (kCentered) dbias[i] = 0;
  }
  for (std::int64_t row = first; row < a.rows; row += step) {
    const T *const dy = a.dy[row], *const x = a.x[row];
    const Statistics statistics = load_statistics<kCentered>(a.statistics[row]);
    const auto normalized = [&](int i) {
      return deviation<kCentered>(cuda::to_float(x[i]), statistics) * statistics.rstd;
    };
    const auto scaled_gradient = [&](int i) {
      return cuda::to_float(dy[i]) * (cuda::to_float(a.weight[i]) + a.offset);
    };

    GradientMeans<kCentered> means;
    for (int i = team.lane; i < a.columns; i += team.lanes) {
      const float n = normalized(i);
      means.add(scaled_gradient(i), n);
      dweight[i] = fmaf(cuda::to_float(dy[i]), n, dweight[i]);
      if (kCentered) dbias[i] += cuda::to_float(dy[i]);
    }
    means.finish(team, inverse_columns);

    T* const dx = a.dx[row];
    for (int i = team.lane; i < a.columns; i += team.lanes) {
      const float dresidual = a.dresidual ? cuda::to_float(a.dresidual[row][i]) : 0.0f;
      dx[i] = cuda::from_float<T>(
          means.dx(scaled_gradient(i), normalized(i), statistics.rstd, dresidual));
    }
  }
}

}  // namespace polyhead::ops::kernel::norms
