#include <cmath>
#include <numbers>

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"
#include "framework/ops/parallel.h"
#include "framework/ops/simd.h"

namespace polyhead::ops::kernel {
namespace {

using simd::Vector;

// A function and its derivative at the same points.
template <class T>
struct Point {
  Vector<T> value;
  Vector<T> slope;
};

template <class T>
Vector<T> sigmoid(const Vector<T>& x) {
  return T(1) / (T(1) + xsimd::exp(-x));
}

struct Silu {
  template <class T>
  static Point<T> at(const Vector<T>& x) {
    const Vector<T> s = sigmoid<T>(x);
    return {x * s, s * (T(1) + x * (T(1) - s))};
  }
};

// 1/2 (1 + tanh(u)) = sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3).
struct GeluTanh {
  template <class T>
  static Point<T> at(const Vector<T>& x) {
    const T linear = static_cast<T>(2 * std::sqrt(2 / std::numbers::pi));
    const T cubic = static_cast<T>(0.044715) * linear;
    const Vector<T> square = x * x;
    const Vector<T> s = sigmoid<T>(x * (linear + cubic * square));
    return {x * s, s * (T(1) + x * (T(1) - s) * (linear + 3 * cubic * square))};
  }
};

struct GeluErf {
  template <class T>
  static Point<T> at(const Vector<T>& x) {
    const T root_half = static_cast<T>(1 / std::numbers::sqrt2);
    const T density = static_cast<T>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
    const Vector<T> cumulative = T(0.5) * (T(1) + xsimd::erf(x * root_half));
    return {x * cumulative, cumulative + x * density * xsimd::exp(T(-0.5) * x * x)};
  }
};

// Calls body with the curve of the activation.
template <class Body>
void with_curve(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::kSwiglu:
      return body(Silu{});
    case Activation::kGeglu:
    case Activation::kGeluTanh:
      return body(GeluTanh{});
    case Activation::kGelu:
      return body(GeluErf{});
  }
}

template <class T, class Curve>
void forward_run(const T* x, std::int64_t count, T* y) {
  simd::for_each<T>(count, [&](std::int64_t i, auto lanes) {
    simd::store(Curve::at(simd::load(x + i, lanes)).value, y + i, lanes);
  });
}

template <class T, class Curve>
void forward_run_gated(const T* gate, const T* up, std::int64_t count, T* y) {
  simd::for_each<T>(count, [&](std::int64_t i, auto lanes) {
    simd::store(Curve::at(simd::load(gate + i, lanes)).value * simd::load(up + i, lanes), y + i,
                lanes);
  });
}

template <class T, class Curve>
void backward_run(const T* dy, const T* x, std::int64_t count, T* dx) {
  simd::for_each<T>(count, [&](std::int64_t i, auto lanes) {
    const Vector<T> slope = Curve::at(simd::load(x + i, lanes)).slope;
    simd::store(simd::load(dy + i, lanes) * slope, dx + i, lanes);
  });
}

template <class T, class Curve>
void backward_run_gated(const T* dy, const T* gate, const T* up, std::int64_t count, T* dgate,
                        T* dup) {
  simd::for_each<T>(count, [&](std::int64_t i, auto lanes) {
    const Point<T> point = Curve::at(simd::load(gate + i, lanes));
    const Vector<T> upstream = simd::load(dy + i, lanes);
    const Vector<T> gate_gradient = upstream * simd::load(up + i, lanes) * point.slope;
    simd::store(gate_gradient, dgate + i, lanes);
    simd::store(upstream * point.value, dup + i, lanes);
  });
}

}  // namespace

template <>
void MlpActivation<Device::kCpu>::forward(const Tensor& x, Activation activation, Tensor& y) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    with_curve(activation, [&]<class Curve>(Curve) {
      const T* input = x.data<T>();
      T* output = y.data<T>();
      parallel_runs(y.rows(), y.cols(),
                    [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
                      const T* from = input + row * x.row_stride() + begin;
                      T* to = output + row * y.row_stride() + begin;
                      if (is_gated(activation)) {
                        forward_run_gated<T, Curve>(from, from + y.cols(), end - begin, to);
                      } else {
                        forward_run<T, Curve>(from, end - begin, to);
                      }
                    });
    });
  });
}

template <>
void MlpActivation<Device::kCpu>::backward(const Tensor& dy, const Tensor& x, Activation activation,
                                           Tensor& dx) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    with_curve(activation, [&]<class Curve>(Curve) {
      const T *gradient = dy.data<T>(), *input = x.data<T>();
      T* result = dx.data<T>();
      const std::int64_t width = dy.cols();
      parallel_runs(dy.rows(), width, [&](std::int64_t row, std::int64_t begin, std::int64_t end) {
        const T* upstream = gradient + row * dy.row_stride() + begin;
        const T* from = input + row * x.row_stride() + begin;
        T* to = result + row * dx.row_stride() + begin;
        if (is_gated(activation)) {
          backward_run_gated<T, Curve>(upstream, from, from + width, end - begin, to, to + width);
        } else {
          backward_run<T, Curve>(upstream, from, end - begin, to);
        }
      });
    });
  });
}

}  // namespace polyhead::ops::kernel
