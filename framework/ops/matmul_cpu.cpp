#include <cblas.h>

#include <algorithm>
#include <limits>

#include "framework/dispatch.h"
#include "framework/ops/blas.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

// A matrix for the BLAS: the address of its first element and its row stride.
template <class T>
struct Operand {
  T* first;
  std::int64_t stride;
  bool transposed;

  // Element (row, column) of the operand as it enters the product.
  T* at(std::int64_t row, std::int64_t column) const {
    return transposed ? first + column * stride + row : first + row * stride + column;
  }
  CBLAS_TRANSPOSE order() const { return transposed ? CblasTrans : CblasNoTrans; }
  int leading() const { return static_cast<int>(stride); }
};

void gemm(const Operand<const float>& a, const Operand<const float>& b, float beta, float* c,
          std::int64_t c_stride, std::int64_t rows, std::int64_t columns, std::int64_t depth) {
  cblas_sgemm(CblasRowMajor, a.order(), b.order(), static_cast<int>(rows),
              static_cast<int>(columns), static_cast<int>(depth), 1, a.first, a.leading(), b.first,
              b.leading(), beta, c, static_cast<int>(c_stride));
}

void gemm(const Operand<const double>& a, const Operand<const double>& b, double beta, double* c,
          std::int64_t c_stride, std::int64_t rows, std::int64_t columns, std::int64_t depth) {
  cblas_dgemm(CblasRowMajor, a.order(), b.order(), static_cast<int>(rows),
              static_cast<int>(columns), static_cast<int>(depth), 1, a.first, a.leading(), b.first,
              b.leading(), beta, c, static_cast<int>(c_stride));
}

// `total` cut into equal pieces of a multiple of 16, none longer than `most`.
struct Pieces {
  Pieces(std::int64_t total, std::int64_t most) {
    constexpr std::int64_t kMultiple = 16;
    const std::int64_t wanted = (total + most - 1) / most;
    length = ((total + wanted - 1) / wanted + kMultiple - 1) / kMultiple * kMultiple;
    count = (total + length - 1) / length;
  }
  std::int64_t length;
  std::int64_t count;
};

}  // namespace

template <>
void Matmul<Device::kCpu>::multiply(const Tensor& a, Transpose transpose_a, const Tensor& b,
                                    Transpose transpose_b, Accumulate accumulate, Tensor& c) {
  make_blas_single_threaded();
  const std::int64_t rows = c.rows(), columns = c.cols();
  const std::int64_t depth = transpose_a == Transpose::kYes ? a.rows() : a.cols();
  if (rows == 0 || columns == 0) return;
  POLYHEAD_CHECK(std::max({rows, columns, depth, a.row_stride(), b.row_stride(), c.row_stride()}) <=
                     std::numeric_limits<int>::max(),
                 "matmul of {} and {}: the BLAS counts in 32 bits", a.shape().to_string(),
                 b.shape().to_string());
  dispatch_cpu_float(c.dtype(), [&]<class T>() {
    const Operand<const T> left{a.data<T>(), a.row_stride(), transpose_a == Transpose::kYes};
    const Operand<const T> right{b.data<T>(), b.row_stride(), transpose_b == Transpose::kYes};
    const T beta = accumulate == Accumulate::kYes ? T(1) : T(0);
    T* result = c.data<T>();
    const Pieces down(rows, 256), across(columns, 512);
#pragma omp parallel for schedule(dynamic, 1) if (down.count * across.count > 1)
    for (std::int64_t block = 0; block < down.count * across.count; ++block) {
      const std::int64_t row = block % down.count * down.length;
      const std::int64_t column = block / down.count * across.length;
      const Operand<const T> strip{left.at(row, 0), left.stride, left.transposed};
      const Operand<const T> panel{right.at(0, column), right.stride, right.transposed};
      gemm(strip, panel, beta, result + row * c.row_stride() + column, c.row_stride(),
           std::min(down.length, rows - row), std::min(across.length, columns - column), depth);
    }
  });
}

}  // namespace polyhead::ops::kernel
