// The reductions among the elementwise ops. Sums are made in two stages, blocks and then the sum of
// the blocks, whose number follows from the size alone: the same bits every time.
#include <algorithm>

#include "framework/cuda/packs.cuh"
#include "framework/cuda/reduce.cuh"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

using cuda::Divider;
using cuda::kWarpSize;
using cuda::Pack;

struct Identity {
  __device__ __forceinline__ double operator()(double x) const { return x; }
};
struct Square {
  __device__ __forceinline__ double operator()(double x) const { return x * x; }
};
// 0 for what is finite and NaN for what is not; sums keep the NaN.
struct Zero {
  __device__ __forceinline__ double operator()(double x) const { return 0.0 * x; }
};

constexpr int kSumThreads = 256;

// Each block: results[block] = factor times the sum of the terms of its share of x, or += it.
template <class T, int kSize, class Term>
__global__ void __launch_bounds__(kSumThreads)
    sum_kernel(const T* x, std::int64_t stride, std::int64_t count, const Divider row_packs,
               double factor, bool accumulate, double* results) {
  constexpr int kBatch = 4;
  const std::int64_t step = static_cast<std::int64_t>(gridDim.x) * kSumThreads;
  double sum = 0;
  for (std::int64_t first = static_cast<std::int64_t>(blockIdx.x) * kSumThreads + threadIdx.x;
       first < count; first += kBatch * step) {
    Pack<T, kSize> packs[kBatch];
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      if (first + k * step >= count) continue;
      const auto [row, pack] = row_packs(first + k * step);
      packs[k] = cuda::load_pack<T, kSize>(x + row * stride + pack * kSize);
    }
#pragma unroll
    for (int k = 0; k < kBatch; ++k) {
      if (first + k * step >= count) continue;
#pragma unroll
      for (int i = 0; i < kSize; ++i) sum += Term{}(packs[k][i]);
    }
  }
  __shared__ double scratch[kSumThreads / kWarpSize];
  sum = factor * cuda::block_reduce(sum, cuda::Sum{}, 0.0, scratch);
  if (threadIdx.x == 0) results[blockIdx.x] = accumulate ? results[blockIdx.x] + sum : sum;
}

// total += factor * the sum of the terms of x.
template <class T, class Term>
void add_terms(double factor, const Tensor& x, Tensor& total) {
  constexpr std::int64_t kMostBlocks = 1024, kPacksPerThread = 16;
  const bool flat = x.is_contiguous();
  const std::int64_t rows = flat ? 1 : x.rows(), columns = flat ? x.numel() : x.cols();
  const bool aligned = cuda::is_aligned(x) && cuda::is_whole_packs<T>(columns);
  cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
    const std::int64_t count = rows * columns / kSize;
    const std::int64_t blocks = std::min(count / (kSumThreads * kPacksPerThread) + 1, kMostBlocks);
    const auto launch = [&](double multiplier, bool accumulate, Tensor& results) {
      sum_kernel<T, kSize, Term>
          <<<static_cast<unsigned>(blocks), kSumThreads, 0, cuda::Context::instance().stream()>>>(
              x.data<T>(), x.row_stride(), count, Divider(columns / kSize), multiplier, accumulate,
              results.data<double>());
      cuda::check_launch("sum");
    };
    if (blocks == 1) {
      launch(factor, true, total);
    } else {
      Tensor sums = Tensor::empty({blocks}, DType::kF64, Device::kCuda);
      launch(1, false, sums);
      add_terms<double, Identity>(factor, sums, total);
    }
  });
}

constexpr int kTileRows = 8;  // of threads, one warp each

// partial[block row][column] = the sum of that column over the block row's rows of dy.
template <class T, int kSize>
__global__ void __launch_bounds__(kWarpSize* kTileRows)
    column_sum_kernel(const T* dy, std::int64_t stride, std::int64_t rows,
                      std::int64_t rows_per_block, std::int64_t columns, float* partial) {
  constexpr int kTileColumns = kWarpSize * kSize;
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const std::int64_t first_column = static_cast<std::int64_t>(blockIdx.x) * kTileColumns;
  const std::int64_t column = first_column + lane * kSize;
  const std::int64_t begin = blockIdx.y * rows_per_block;
  const std::int64_t end = min(begin + rows_per_block, rows);
  float sum[kSize] = {};
  if (column < columns) {
#pragma unroll 4
    for (std::int64_t row = begin + warp; row < end; row += kTileRows) {
      const auto pack = cuda::load_pack<T, kSize>(dy + row * stride + column);
#pragma unroll
      for (int i = 0; i < kSize; ++i) sum[i] += pack[i];
    }
  }
  __shared__ float sums[kTileRows][kTileColumns];
#pragma unroll
  for (int i = 0; i < kSize; ++i) sums[warp][i * kWarpSize + lane] = sum[i];
  __syncthreads();
  for (int place = warp * kWarpSize + lane; place < kTileColumns; place += kWarpSize * kTileRows) {
    float total = 0;
    for (int k = 0; k < kTileRows; ++k) total += sums[k][place];
    const std::int64_t to = first_column + place % kWarpSize * kSize + place / kWarpSize;
    if (to < columns) partial[blockIdx.y * columns + to] = total;
  }
}

// dbias += the sum of the rows of `partial`.
__global__ void __launch_bounds__(kWarpSize* kTileRows)
    add_rows_kernel(const float* partial, std::int64_t rows, std::int64_t columns, float* dbias) {
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const std::int64_t column = static_cast<std::int64_t>(blockIdx.x) * kWarpSize + lane;
  float sum = 0;
  if (column < columns) {
#pragma unroll 8
    for (std::int64_t row = warp; row < rows; row += kTileRows) {
      sum += partial[row * columns + column];
    }
  }
  __shared__ float sums[kTileRows][kWarpSize];
  sums[warp][lane] = sum;
  __syncthreads();
  if (warp > 0 || column >= columns) return;
  float total = 0;
  for (int k = 0; k < kTileRows; ++k) total += sums[k][lane];
  dbias[column] += total;
}

std::int64_t pieces(std::int64_t whole, std::int64_t piece) {
  return (whole + piece - 1) / piece;
}

}  // namespace

template <>
void Elementwise<Device::kCuda>::bias_backward(const Tensor& dy, Tensor& dbias) {
  const std::int64_t rows = dy.rows(), columns = dy.cols();
  if (rows == 0 || columns == 0) return;
  const cudaStream_t stream = cuda::Context::instance().stream();
  const dim3 threads(kWarpSize, kTileRows);
  cuda::dispatch_float(dy.dtype(), [&]<class T>() {
    const bool aligned = cuda::is_aligned(dy) && cuda::is_whole_packs<T>(columns);
    cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
      constexpr std::int64_t kMostBlocks = 1024, kLeastRows = 64;
      const std::int64_t across = pieces(columns, kWarpSize * kSize);
      const std::int64_t most_down = std::max<std::int64_t>(1, kMostBlocks / across);
      const std::int64_t rows_per_block = std::max(kLeastRows, pieces(rows, most_down));
      const std::int64_t down = pieces(rows, rows_per_block);
      Tensor partial = Tensor::empty({down, columns}, DType::kF32, Device::kCuda);
      const dim3 blocks(static_cast<unsigned>(across), static_cast<unsigned>(down));
      column_sum_kernel<T, kSize><<<blocks, threads, 0, stream>>>(
          dy.data<T>(), dy.row_stride(), rows, rows_per_block, columns, partial.data<float>());
      cuda::check_launch("bias_backward: column sums");
      add_rows_kernel<<<static_cast<unsigned>(pieces(columns, kWarpSize)), threads, 0, stream>>>(
          partial.data<float>(), down, columns, dbias.data<float>());
      cuda::check_launch("bias_backward: sum of rows");
    });
  });
}

template <>
void Elementwise<Device::kCuda>::add_sum(double factor, const Tensor& x, Tensor& total) {
  if (x.dtype() == DType::kF64) return add_terms<double, Identity>(factor, x, total);
  cuda::dispatch_float(x.dtype(), [&]<class T>() { add_terms<T, Identity>(factor, x, total); });
}

template <>
void Elementwise<Device::kCuda>::add_sum_squares(const Tensor& x, Tensor& total) {
  cuda::dispatch_float(x.dtype(), [&]<class T>() { add_terms<T, Square>(1, x, total); });
}

template <>
bool Elementwise<Device::kCuda>::all_finite(const Tensor& x) {
  Tensor total = Tensor::zeros({1}, DType::kF64, Device::kCuda);
  cuda::dispatch_float(x.dtype(), [&]<class T>() { add_terms<T, Zero>(1, x, total); });
  return total.to(Device::kCpu).data<double>()[0] == 0;
}

}  // namespace polyhead::ops::kernel
