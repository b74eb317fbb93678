// Filling and comparing host tensors in tests.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>

#include "framework/dispatch.h"
#include "framework/random.h"
#include "framework/tensor.h"

namespace polyhead::testing {

// Standard normal numbers times `scale`, the same for f32 and f64; `name` tells tensors apart.
inline Tensor random_tensor(const Shape& shape, DType dtype, std::string_view name,
                            double scale = 1.0) {
  Tensor x = Tensor::empty(shape, dtype);
  dispatch_cpu_float(dtype, [&]<class T>() {
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      x.data<T>()[i] =
          static_cast<T>(scale * normal(20240117, stream_id(name), static_cast<std::uint64_t>(i)));
    }
  });
  return x;
}

inline Tensor ones(const Shape& shape, DType dtype = DType::kF64) {
  Tensor x = Tensor::empty(shape, dtype);
  dispatch_cpu_float(dtype, [&]<class T>() { std::fill_n(x.data<T>(), x.numel(), T(1)); });
  return x;
}

// Element (row, col) as double.
inline double at(const Tensor& x, std::int64_t row, std::int64_t col) {
  double value = 0;
  dispatch_cpu_float(x.dtype(),
                     [&]<class T>() { value = x.data<T>()[row * x.row_stride() + col]; });
  return value;
}

inline double max_abs(const Tensor& x) {
  double largest = 0;
  for (std::int64_t row = 0; row < x.rows(); ++row) {
    for (std::int64_t col = 0; col < x.cols(); ++col) {
      largest = std::max(largest, std::abs(at(x, row, col)));
    }
  }
  return largest;
}

// max |got - want| / max(max |want|, floor); infinite where either holds a NaN or the shapes
// differ.
inline double relative_error(const Tensor& got, const Tensor& want, double floor = 1e-30) {
  constexpr double kInfinite = std::numeric_limits<double>::infinity();
  if (!(got.shape() == want.shape())) return kInfinite;
  double difference = 0;
  for (std::int64_t row = 0; row < got.rows(); ++row) {
    for (std::int64_t col = 0; col < got.cols(); ++col) {
      const double error = std::abs(at(got, row, col) - at(want, row, col));
      if (std::isnan(error)) return kInfinite;
      difference = std::max(difference, error);
    }
  }
  return difference / std::max(max_abs(want), floor);
}

inline bool bitwise_equal(const Tensor& a, const Tensor& b) {
  if (!(a.shape() == b.shape()) || a.dtype() != b.dtype()) return false;
  const Tensor x = a.clone(), y = b.clone();
  return std::memcmp(x.raw(), y.raw(), x.bytes()) == 0;
}

}  // namespace polyhead::testing
