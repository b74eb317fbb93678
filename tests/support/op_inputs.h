// Inputs, outputs and thread counts of op tests.
#pragma once

#include <gtest/gtest.h>
#include <omp.h>

#include <functional>
#include <limits>
#include <string_view>
#include <vector>

#include "tests/support/compare.h"

namespace polyhead::testing {

inline Tensor filled(const Shape& shape, DType dtype, double value) {
  Tensor x = Tensor::empty(shape, dtype);
  dispatch_cpu_float(
      dtype, [&]<class T>() { std::fill_n(x.data<T>(), x.numel(), static_cast<T>(value)); });
  return x;
}

// What an output must not read and a padding must not leak.
inline Tensor poisoned(const Shape& shape, DType dtype) {
  return filled(shape, dtype, std::numeric_limits<double>::quiet_NaN());
}

// Columns [3, 3 + columns) of a wider matrix whose other columns are NaN.
inline Tensor strided_poisoned(std::int64_t rows, std::int64_t columns, DType dtype) {
  return poisoned({rows, columns + 5}, dtype).column_slice(3, 3 + columns);
}
inline Tensor strided_random(std::int64_t rows, std::int64_t columns, DType dtype,
                             std::string_view name, double scale = 1.0) {
  Tensor x = strided_poisoned(rows, columns, dtype);
  x.copy_from(random_tensor({rows, columns}, dtype, name, scale));
  return x;
}

// A tensor of the same shape with value(row, column).
inline Tensor reference(const Tensor& like,
                        const std::function<double(std::int64_t, std::int64_t)>& value) {
  Tensor result = Tensor::empty(like.shape(), DType::kF64);
  for (std::int64_t row = 0; row < like.rows(); ++row) {
    for (std::int64_t col = 0; col < like.cols(); ++col) {
      result.data<double>()[row * result.row_stride() + col] = value(row, col);
    }
  }
  return result;
}

inline Tensor int_tensor(const std::vector<std::int32_t>& values) {
  Tensor x = Tensor::empty({static_cast<std::int64_t>(values.size())}, DType::kI32);
  std::copy(values.begin(), values.end(), x.data<std::int32_t>());
  return x;
}

// `compute` gives bitwise the same tensors with 1, 2, 3 and 4 threads.
inline void expect_same_with_any_threads(const std::function<std::vector<Tensor>()>& compute) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "libgomp is not instrumented: every parallel loop would look like a race";
#endif
  const int threads_before = omp_get_max_threads();
  omp_set_num_threads(1);
  const std::vector<Tensor> alone = compute();
  for (const int threads : {2, 3, 4}) {
    omp_set_num_threads(threads);
    const std::vector<Tensor> shared = compute();
    for (std::size_t i = 0; i < alone.size(); ++i) {
      EXPECT_TRUE(bitwise_equal(alone[i], shared[i])) << "result " << i << ", threads " << threads;
    }
  }
  omp_set_num_threads(threads_before);
}

}  // namespace polyhead::testing
