#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <numeric>
#include <vector>

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"
#include "framework/ops/parallel.h"
#include "framework/ops/row_sums.h"
#include "framework/ops/simd.h"

namespace polyhead::ops::kernel {
namespace {

using simd::Vector;

// Rows and columns of tensors of one shape; contiguous tensors count as one long row.
struct Extent {
  std::int64_t rows;
  std::int64_t columns;
};

Extent extent_of(std::initializer_list<const Tensor*> tensors) {
  const Tensor& first = **tensors.begin();
  const bool flat = std::all_of(tensors.begin(), tensors.end(),
                                [](const Tensor* x) { return x->is_contiguous(); });
  return flat ? Extent{1, first.numel()} : Extent{first.rows(), first.cols()};
}

// y = function(x), element by element.
template <class T, class Function>
void map(const Tensor& x, Tensor& y, Function&& function) {
  const T* source = x.data<T>();
  T* target = y.data<T>();
  const Extent extent = extent_of({&x, &y});
  parallel_runs(extent.rows, extent.columns,
                [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                  const T* from = source + row * x.row_stride() + begin;
                  T* to = target + row * y.row_stride() + begin;
                  simd::for_each<T>(end - begin, [&](std::int64_t i, auto lanes) {
                    simd::store(function(simd::load(from + i, lanes)), to + i, lanes);
                  });
                });
}

// y = function(a, b), element by element.
template <class T, class Function>
void map(const Tensor& a, const Tensor& b, Tensor& y, Function&& function) {
  const T *first = a.data<T>(), *second = b.data<T>();
  T* target = y.data<T>();
  const Extent extent = extent_of({&a, &b, &y});
  parallel_runs(extent.rows, extent.columns,
                [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                  const T* left = first + row * a.row_stride() + begin;
                  const T* right = second + row * b.row_stride() + begin;
                  T* to = target + row * y.row_stride() + begin;
                  simd::for_each<T>(end - begin, [&](std::int64_t i, auto lanes) {
                    simd::store(function(simd::load(left + i, lanes), simd::load(right + i, lanes)),
                                to + i, lanes);
                  });
                });
}

// Sum of body(elements, count) over the runs of x, in order.
template <class T, class Body>
double sum_of_runs(const Tensor& x, Body&& body) {
  const Extent extent = extent_of({&x});
  const std::int64_t runs = runs_per_row(extent.columns);
  const T* elements = x.data<T>();
  std::vector<double> sums(static_cast<std::size_t>(extent.rows * runs));
  parallel_runs(extent.rows, extent.columns,
                [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                  sums[static_cast<std::size_t>(row * runs + begin / kRunElements)] =
                      body(elements + row * x.row_stride() + begin, end - begin);
                });
  double total = 0;
  for (const double sum : sums) total += sum;
  return total;
}

double squares(const double* x, std::int64_t count) {
  return simd::sum<double>(count, [x](std::int64_t i, auto lanes) {
    const Vector<double> value = simd::load(x + i, lanes);
    return value * value;
  });
}

// f32 squares are exact in f64; the compiler turns the fixed lanes into vectors.
double squares(const float* x, std::int64_t count) {
  constexpr std::int64_t kLanes = 32;
  std::array<double, kLanes> lanes{};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      const double value = x[i + lane];
      lanes[static_cast<std::size_t>(lane)] += value * value;
    }
  }
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  for (; i < count; ++i) sum += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  return sum;
}

}  // namespace

template <>
void Elementwise<Device::kCpu>::fill(double value, Tensor& x) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    T* elements = x.data<T>();
    const Extent extent = extent_of({&x});
    parallel_runs(
        extent.rows, extent.columns, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
          std::fill_n(elements + row * x.row_stride() + begin, end - begin, static_cast<T>(value));
        });
  });
}

template <>
void Elementwise<Device::kCpu>::scale(double factor, Tensor& x) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    const Vector<T> multiplier(static_cast<T>(factor));
    map<T>(x, x, [&](const Vector<T>& value) { return value * multiplier; });
  });
}

template <>
void Elementwise<Device::kCpu>::add(const Tensor& a, const Tensor& b, Tensor& y) {
  dispatch_cpu_float(y.dtype(), [&]<class T>() {
    map<T>(a, b, y, [](const Vector<T>& left, const Vector<T>& right) { return left + right; });
  });
}

template <>
void Elementwise<Device::kCpu>::add_bias(const Tensor& bias, Tensor& y) {
  dispatch_cpu_float(y.dtype(), [&]<class T>() {
    const T* addend = bias.data<T>();
    T* first = y.data<T>();
    parallel_runs(y.rows(), y.cols(), [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
      T* to = first + row * y.row_stride() + begin;
      simd::for_each<T>(end - begin, [&](std::int64_t i, auto lanes) {
        simd::store(simd::load(to + i, lanes) + simd::load(addend + begin + i, lanes), to + i,
                    lanes);
      });
    });
  });
}

template <>
void Elementwise<Device::kCpu>::bias_backward(const Tensor& dy, Tensor& dbias) {
  dispatch_cpu_float(dy.dtype(), [&]<class T>() {
    const T* first = dy.data<T>();
    const Tensor sums =
        row_block_sums<T>(dy.rows(), dy.cols(), [&](std::int64_t begin, std::int64_t end, T* sum) {
          for (std::int64_t row = begin; row < end; ++row) {
            const T* from = first + row * dy.row_stride();
            simd::for_each<T>(dy.cols(), [&](std::int64_t i, auto lanes) {
              simd::store(simd::load(sum + i, lanes) + simd::load(from + i, lanes), sum + i, lanes);
            });
          }
        });
    add_rows(sums, dbias.data<T>());
  });
}

template <>
void Elementwise<Device::kCpu>::softcap_forward(double cap, Tensor& x) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    const Vector<T> limit(static_cast<T>(cap));
    map<T>(x, x, [&](const Vector<T>& value) { return limit * xsimd::tanh(value / limit); });
  });
}

template <>
void Elementwise<Device::kCpu>::softcap_backward(const Tensor& y, double cap, Tensor& dy) {
  dispatch_cpu_float(y.dtype(), [&]<class T>() {
    const Vector<T> limit(static_cast<T>(cap)), one(1);
    map<T>(y, dy, dy, [&](const Vector<T>& capped, const Vector<T>& gradient) {
      const Vector<T> tanh = capped / limit;
      return gradient * (one - tanh * tanh);
    });
  });
}

template <>
void Elementwise<Device::kCpu>::add_sum(double factor, const Tensor& x, Tensor& total) {
  total.data<double>()[0] += factor * dispatch_cpu_float(x.dtype(), [&]<class T>() {
                               return sum_of_runs<T>(x, [](const T* run, std::int64_t count) {
                                 return std::accumulate(run, run + count, 0.0);
                               });
                             });
}

template <>
void Elementwise<Device::kCpu>::add_sum_squares(const Tensor& x, Tensor& total) {
  total.data<double>()[0] += dispatch_cpu_float(x.dtype(), [&]<class T>() {
    return sum_of_runs<T>(x, [](const T* run, std::int64_t count) { return squares(run, count); });
  });
}

template <>
void Elementwise<Device::kCpu>::clip_scale(const Tensor& squares, double max_norm, Tensor& scale) {
  const double norm = std::sqrt(squares.data<double>()[0]);
  const double unlimited = std::isfinite(norm) ? 1.0 : std::numeric_limits<double>::quiet_NaN();
  scale.data<double>()[0] =
      max_norm > 0 && max_norm < norm + 1e-6 ? max_norm / (norm + 1e-6) * unlimited : unlimited;
}

template <>
bool Elementwise<Device::kCpu>::all_finite(const Tensor& x) {
  // 0 * x is NaN for what is not finite, and the sum keeps it.
  return dispatch_cpu_float(x.dtype(), [&]<class T>() {
    return sum_of_runs<T>(x, [](const T* run, std::int64_t count) {
             return static_cast<double>(simd::sum<T>(count, [run](std::int64_t i, auto lanes) {
               return Vector<T>(0) * simd::load(run + i, lanes);
             }));
           }) == 0;
  });
}

}  // namespace polyhead::ops::kernel
