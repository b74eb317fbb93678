#include <cblas.h>

#include <algorithm>
#include <limits>

#include "framework/dispatch.h"
#include "framework/ops/blas.h"
#include "framework/ops/kernels.h"
#include "framework/ops/parallel.h"

namespace polyhead::ops::kernel {
namespace {

// A matrix as it enters a product.
template <class T>
struct Operand {
  const T* first;
  std::int64_t row_stride;
  bool transposed;

  // The address of element (row, column), where the operand's transposition counts.
  const T* at(std::int64_t row, std::int64_t column) const {
    return transposed ? first + column * row_stride + row : first + row * row_stride + column;
  }
  Operand from_row(std::int64_t row) const { return {at(row, 0), row_stride, transposed}; }
  Operand from_column(std::int64_t column) const { return {at(0, column), row_stride, transposed}; }
  CBLAS_TRANSPOSE order() const { return transposed ? CblasTrans : CblasNoTrans; }
  int leading() const { return static_cast<int>(std::max<std::int64_t>(row_stride, 1)); }
};

template <class T>
Operand<T> operand(const Tensor& x, Transpose transpose) {
  return {x.data<T>(), x.row_stride(), transpose == Transpose::kYes};
}

// c (rows, columns) = a b + beta c.
void gemm(const Operand<float>& a, const Operand<float>& b, float beta, float* c, int c_stride,
          int rows, int columns, int depth) {
  cblas_sgemm(CblasRowMajor, a.order(), b.order(), rows, columns, depth, 1, a.first, a.leading(),
              b.first, b.leading(), beta, c, c_stride);
}
void gemm(const Operand<double>& a, const Operand<double>& b, double beta, double* c, int c_stride,
          int rows, int columns, int depth) {
  cblas_dgemm(CblasRowMajor, a.order(), b.order(), rows, columns, depth, 1, a.first, a.leading(),
              b.first, b.leading(), beta, c, c_stride);
}

// y (columns) += x (depth) b, where b is (depth, columns).
void gemv(const float* x, int x_stride, const Operand<float>& b, float* y, int columns, int depth) {
  const auto order = b.transposed ? CblasNoTrans : CblasTrans;
  cblas_sgemv(CblasRowMajor, order, b.transposed ? columns : depth, b.transposed ? depth : columns,
              1, b.first, b.leading(), x, x_stride, 1, y, 1);
}
void gemv(const double* x, int x_stride, const Operand<double>& b, double* y, int columns,
          int depth) {
  const auto order = b.transposed ? CblasNoTrans : CblasTrans;
  cblas_dgemv(CblasRowMajor, order, b.transposed ? columns : depth, b.transposed ? depth : columns,
              1, b.first, b.leading(), x, x_stride, 1, y, 1);
}

// The blocks of a product, by its shape alone. Halving the longer side again and again keeps their
// number a power of two and the operands' repeated packing least. Blocks of kSmallBlock elements
// run at about 95 % of the undivided product's rate, so beyond kManyBlocks only larger ones divide.
struct BlockGrid {
  static constexpr std::int64_t kLeastWork = 1 << 20;  // multiplications worth a parallel region
  static constexpr std::int64_t kBlockWork = 1 << 25;
  static constexpr std::int64_t kSmallBlock = 1 << 17, kLargeBlock = 1 << 19;
  static constexpr std::int64_t kManyBlocks = 8, kMostBlocks = 64;

  BlockGrid(std::int64_t rows, std::int64_t columns, std::int64_t depth)
      : height(rows), width(columns) {
    std::int64_t blocks = 1;
    const auto divides = [&] {
      const std::int64_t half = height * width / 2, work = height * width * depth;
      if (blocks == 1) return work > kLeastWork;
      return work > kBlockWork && half >= (blocks < kManyBlocks ? kSmallBlock : kLargeBlock) &&
             blocks < kMostBlocks;
    };
    for (; divides(); blocks *= 2) {
      std::int64_t& longer = height > width ? height : width;
      longer = half_of(longer);
    }
    down = (rows + height - 1) / height;
    across = (columns + width - 1) / width;
  }

  // Rounded up to the width of the BLAS's register tiles.
  static std::int64_t half_of(std::int64_t length) { return (length / 2 + 15) / 16 * 16; }

  std::int64_t height, width;  // of a block
  std::int64_t down, across;   // number of blocks
};

template <class T>
void multiply_blocks(const Operand<T>& a, const Operand<T>& b, bool accumulate, std::int64_t depth,
                     Tensor& c) {
  const BlockGrid grid(c.rows(), c.cols(), depth);
  const std::int64_t blocks = grid.down * grid.across;
  T* first = c.data<T>();
  // Dynamic: a block's place in time depends on the threads, its value does not.
#pragma omp parallel for schedule(dynamic, 1) if (blocks > 1)
  for (std::int64_t block = 0; block < blocks; ++block) {
    const std::int64_t row = block % grid.down * grid.height;
    const std::int64_t column = block / grid.down * grid.width;
    gemm(a.from_row(row), b.from_column(column), accumulate ? T(1) : T(0),
         first + row * c.row_stride() + column, static_cast<int>(c.row_stride()),
         static_cast<int>(std::min(grid.height, c.rows() - row)),
         static_cast<int>(std::min(grid.width, c.cols() - column)), static_cast<int>(depth));
  }
}

// A single row of c: no packing, bound by reading b.
template <class T>
void multiply_row(const Operand<T>& a, const Operand<T>& b, bool accumulate, std::int64_t depth,
                  Tensor& c) {
  constexpr std::int64_t kWidth = 128;
  const std::int64_t columns = c.cols();
  const auto a_stride = static_cast<int>(a.transposed ? a.leading() : 1);
  T* first = c.data<T>();
  if (!accumulate) std::fill_n(first, columns, T(0));
  parallel_pieces((columns + kWidth - 1) / kWidth, columns * depth, [&](std::int64_t piece) {
    const std::int64_t begin = piece * kWidth;
    gemv(a.first, a_stride, b.from_column(begin), first + begin,
         static_cast<int>(std::min(kWidth, columns - begin)), static_cast<int>(depth));
  });
}

}  // namespace

template <>
void Matmul<Device::kCpu>::multiply(const Tensor& addend, const Tensor& a, Transpose transpose_a,
                                    const Tensor& b, Transpose transpose_b, Tensor& c) {
  make_blas_single_threaded();
  const std::int64_t depth = transpose_a == Transpose::kYes ? a.rows() : a.cols();
  if (c.numel() == 0) return;
  POLYHEAD_CHECK(std::max({c.rows(), c.cols(), depth, a.row_stride(), b.row_stride(),
                           c.row_stride()}) <= std::numeric_limits<int>::max(),
                 "matmul of {} and {}: the BLAS counts in 32 bits", a.shape().to_string(),
                 b.shape().to_string());
  if (addend && addend.raw() != c.raw()) c.copy_from(addend);
  dispatch_cpu_float(c.dtype(), [&]<class T>() {
    const Operand<T> left = operand<T>(a, transpose_a), right = operand<T>(b, transpose_b);
    const auto keep = static_cast<bool>(addend);
    if (c.rows() == 1) {
      multiply_row(left, right, keep, depth, c);
    } else {
      multiply_blocks(left, right, keep, depth, c);
    }
  });
}

template <>
void Matmul<Device::kCpu>::set_measuring(bool /*on*/) {}

template <>
std::string Matmul<Device::kCpu>::choices() {
  return "";
}

template <>
bool Matmul<Device::kCpu>::adopt_choices(const std::string& choices,
                                         const std::string& /*source*/) {
  return choices.empty();
}

}  // namespace polyhead::ops::kernel
