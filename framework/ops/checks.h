// Checks of arguments, shared by all ops.
#pragma once

#include <string_view>

#include "framework/tensor.h"

namespace polyhead::ops {

// x counts as a (rows, columns) matrix, a vector as one row, and has the given dtype and device.
inline void check_matrix(std::string_view name, const Tensor& x, std::int64_t rows,
                         std::int64_t columns, DType dtype, Device device) {
  POLYHEAD_CHECK(x, "{} is empty", name);
  POLYHEAD_CHECK(x.rows() == rows && x.cols() == columns, "{} is {}, not ({}, {})", name,
                 x.shape().to_string(), rows, columns);
  POLYHEAD_CHECK(x.dtype() == dtype && x.device() == device, "{} is {} on {}, not {} on {}", name,
                 name_of(x.dtype()), name_of(x.device()), name_of(dtype), name_of(device));
}

// ... with the dtype and device of `like`.
inline void check_matrix(std::string_view name, const Tensor& x, std::int64_t rows,
                         std::int64_t columns, const Tensor& like) {
  check_matrix(name, x, rows, columns, like.dtype(), like.device());
}

// ... with the dtype of sums over elements of `like`.
inline void check_accumulated(std::string_view name, const Tensor& x, std::int64_t rows,
                              std::int64_t columns, const Tensor& like) {
  check_matrix(name, x, rows, columns, accumulation_dtype(like.dtype()), like.device());
}

inline void check_same(std::string_view name, const Tensor& x, const Tensor& like) {
  check_matrix(name, x, like.rows(), like.cols(), like);
}

}  // namespace polyhead::ops
