#include <cmath>

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"
#include "framework/ops/parallel.h"
#include "framework/ops/row_sums.h"
#include "framework/ops/simd.h"

namespace polyhead::ops::kernel {
namespace {

using simd::Vector;

template <class T>
T reciprocal_root(T mean_square, double epsilon) {
  return static_cast<T>(1.0 / std::sqrt(static_cast<double>(mean_square) + epsilon));
}

// One row of RMSNorm; `offset` is added to the weight.
template <class T>
void rms_normalize(const T* x, const T* weight, T offset, T rstd, std::int64_t columns, T* y) {
  const Vector<T> factor(rstd), plus(offset);
  simd::for_each<T>(columns, [&](std::int64_t i, auto lanes) {
    simd::store(simd::load(x + i, lanes) * factor * (simd::load(weight + i, lanes) + plus), y + i,
                lanes);
  });
}

// One row of LayerNorm. The explicit fma keeps forward and apply bitwise equal.
template <class T>
void layer_normalize(const T* x, const T* weight, const T* bias, T mean, T rstd,
                     std::int64_t columns, T* y) {
  const Vector<T> center(mean), factor(rstd);
  simd::for_each<T>(columns, [&](std::int64_t i, auto lanes) {
    const Vector<T> normalized = (simd::load(x + i, lanes) - center) * factor;
    simd::store(xsimd::fma(normalized, simd::load(weight + i, lanes), simd::load(bias + i, lanes)),
                y + i, lanes);
  });
}

// Adds a row of the residual stream, where there is one, and returns what is to be normalised.
template <class T>
const T* add_residual(const Tensor& addend, const Tensor& x, std::int64_t row, Tensor& sum) {
  const T* const from = x.data<T>() + row * x.row_stride();
  if (!addend) return from;
  const T* const other = addend.data<T>() + row * addend.row_stride();
  T* const to = sum.data<T>() + row * sum.row_stride();
  simd::for_each<T>(x.cols(), [&](std::int64_t i, auto lanes) {
    simd::store(simd::load(from + i, lanes) + simd::load(other + i, lanes), to + i, lanes);
  });
  return to;
}

// The gradient that reaches the norm's input beside it, or nothing.
template <class T>
class ResidualGradient {
 public:
  ResidualGradient(const Tensor& dresidual, std::int64_t row)
      : row_(dresidual ? dresidual.data<T>() + row * dresidual.row_stride() : nullptr) {}

  template <class Lanes>
  Vector<T> added_to(const Vector<T>& dx, std::int64_t i, Lanes lanes) const {
    return row_ == nullptr ? dx : dx + simd::load(row_ + i, lanes);
  }

 private:
  const T* row_;
};

template <class T>
T weight_offset(NormWeight form) {
  return form == NormWeight::kOnePlus ? T(1) : T(0);
}

}  // namespace

template <>
void RmsNorm<Device::kCpu>::forward(const Tensor& addend, const Tensor& x, const Tensor& weight,
                                    NormWeight form, double epsilon, Tensor& sum, Tensor& y,
                                    Tensor& rstd) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    const T* weights = weight.data<T>();
    T *output = y.data<T>(), *factors = rstd.data<T>();
    const std::int64_t columns = x.cols();
    parallel_pieces(x.rows(), x.numel(), [&](std::int64_t row) {
      const T* from = add_residual<T>(addend, x, row, sum);
      const T square_sum = simd::sum<T>(columns, [from](std::int64_t i, auto lanes) {
        const Vector<T> value = simd::load(from + i, lanes);
        return value * value;
      });
      factors[row] = reciprocal_root(square_sum / static_cast<T>(columns), epsilon);
      rms_normalize(from, weights, weight_offset<T>(form), factors[row], columns,
                    output + row * y.row_stride());
    });
  });
}

template <>
void RmsNorm<Device::kCpu>::apply(const Tensor& x, const Tensor& weight, NormWeight form,
                                  const Tensor& rstd, Tensor& y) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    const T *input = x.data<T>(), *weights = weight.data<T>(), *factors = rstd.data<T>();
    T* output = y.data<T>();
    parallel_pieces(x.rows(), x.numel(), [&](std::int64_t row) {
      rms_normalize(input + row * x.row_stride(), weights, weight_offset<T>(form), factors[row],
                    x.cols(), output + row * y.row_stride());
    });
  });
}

// With g = dy * weight:  dx = rstd (g - x rstd^2 mean(g x)) + dresidual.
template <>
void RmsNorm<Device::kCpu>::backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                     NormWeight form, const Tensor& rstd, const Tensor& dresidual,
                                     Tensor& dx, Tensor& dweight) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    const T *gradient = dy.data<T>(), *input = x.data<T>();
    const T *weights = weight.data<T>(), *factors = rstd.data<T>();
    T* result = dx.data<T>();
    const std::int64_t columns = x.cols();
    const Vector<T> plus(weight_offset<T>(form));
    const auto backward_row = [&](std::int64_t row, T* weight_gradient) {
      const T* upstream = gradient + row * dy.row_stride();
      const T* from = input + row * x.row_stride();
      T* to = result + row * dx.row_stride();
      const Vector<T> factor(factors[row]);
      const T dot = simd::sum<T>(columns, [&](std::int64_t i, auto lanes) {
        const Vector<T> product = simd::load(upstream + i, lanes) * simd::load(from + i, lanes);
        simd::store(simd::load(weight_gradient + i, lanes) + product * factor, weight_gradient + i,
                    lanes);
        return product * (simd::load(weights + i, lanes) + plus);
      });
      const Vector<T> pull(dot * factors[row] * factors[row] / static_cast<T>(columns));
      const ResidualGradient<T> beside(dresidual, row);
      simd::for_each<T>(columns, [&](std::int64_t i, auto lanes) {
        const Vector<T> scaled =
            simd::load(upstream + i, lanes) * (simd::load(weights + i, lanes) + plus);
        const Vector<T> through = factor * (scaled - simd::load(from + i, lanes) * pull);
        simd::store(beside.added_to(through, i, lanes), to + i, lanes);
      });
    };
    const Tensor sums = row_block_sums<T>(
        x.rows(), columns, [&](std::int64_t begin, std::int64_t end, T* weight_gradient) {
          for (std::int64_t row = begin; row < end; ++row) backward_row(row, weight_gradient);
        });
    add_rows(sums, dweight.data<T>());
  });
}

template <>
void LayerNorm<Device::kCpu>::forward(const Tensor& addend, const Tensor& x, const Tensor& weight,
                                      const Tensor& bias, double epsilon, Tensor& sum, Tensor& y,
                                      Tensor& statistics) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    const T *weights = weight.data<T>(), *biases = bias.data<T>();
    T *output = y.data<T>(), *moments = statistics.data<T>();
    const std::int64_t columns = x.cols();
    parallel_pieces(x.rows(), x.numel(), [&](std::int64_t row) {
      const T* from = add_residual<T>(addend, x, row, sum);
      const T mean =
          simd::sum<T>(columns,
                       [from](std::int64_t i, auto lanes) { return simd::load(from + i, lanes); }) /
          static_cast<T>(columns);
      const Vector<T> center(mean);
      const T square_sum = simd::sum<T>(columns, [&](std::int64_t i, auto lanes) {
        const Vector<T> deviation = simd::load(from + i, lanes) - center;
        return deviation * deviation;
      });
      const T rstd = reciprocal_root(square_sum / static_cast<T>(columns), epsilon);
      T* moment = moments + row * statistics.row_stride();
      moment[0] = mean;
      moment[1] = rstd;
      layer_normalize(from, weights, biases, mean, rstd, columns, output + row * y.row_stride());
    });
  });
}

template <>
void LayerNorm<Device::kCpu>::apply(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                    const Tensor& statistics, Tensor& y) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    const T *input = x.data<T>(), *weights = weight.data<T>(), *biases = bias.data<T>();
    const T* moments = statistics.data<T>();
    T* output = y.data<T>();
    parallel_pieces(x.rows(), x.numel(), [&](std::int64_t row) {
      const T* moment = moments + row * statistics.row_stride();
      layer_normalize(input + row * x.row_stride(), weights, biases, moment[0], moment[1], x.cols(),
                      output + row * y.row_stride());
    });
  });
}

// With g = dy * weight and n the normalised x:  dx = rstd (g - mean(g) - n mean(g n)) + dresidual.
template <>
void LayerNorm<Device::kCpu>::backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                       const Tensor& statistics, const Tensor& dresidual,
                                       Tensor& dx, Tensor& dweight, Tensor& dbias) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    const T *gradient = dy.data<T>(), *input = x.data<T>(), *weights = weight.data<T>();
    const T* moments = statistics.data<T>();
    T* result = dx.data<T>();
    const std::int64_t columns = x.cols();
    const auto backward_row = [&](std::int64_t row, T* weight_gradient, T* bias_gradient) {
      const T* upstream = gradient + row * dy.row_stride();
      const T* from = input + row * x.row_stride();
      T* to = result + row * dx.row_stride();
      const T* moment = moments + row * statistics.row_stride();
      const Vector<T> center(moment[0]), factor(moment[1]);
      const T gradient_sum = simd::sum<T>(columns, [&](std::int64_t i, auto lanes) {
        const Vector<T> change = simd::load(upstream + i, lanes);
        simd::store(simd::load(bias_gradient + i, lanes) + change, bias_gradient + i, lanes);
        return change * simd::load(weights + i, lanes);
      });
      const T dot = simd::sum<T>(columns, [&](std::int64_t i, auto lanes) {
        const Vector<T> normalized = (simd::load(from + i, lanes) - center) * factor;
        const Vector<T> product = simd::load(upstream + i, lanes) * normalized;
        simd::store(simd::load(weight_gradient + i, lanes) + product, weight_gradient + i, lanes);
        return product * simd::load(weights + i, lanes);
      });
      const Vector<T> gradient_mean(gradient_sum / static_cast<T>(columns));
      const Vector<T> dot_mean(dot / static_cast<T>(columns));
      const ResidualGradient<T> beside(dresidual, row);
      simd::for_each<T>(columns, [&](std::int64_t i, auto lanes) {
        const Vector<T> normalized = (simd::load(from + i, lanes) - center) * factor;
        const Vector<T> scaled = simd::load(upstream + i, lanes) * simd::load(weights + i, lanes);
        const Vector<T> through = factor * (scaled - gradient_mean - normalized * dot_mean);
        simd::store(beside.added_to(through, i, lanes), to + i, lanes);
      });
    };
    const Tensor sums = row_block_sums<T>(
        x.rows(), 2 * columns, [&](std::int64_t begin, std::int64_t end, T* weight_and_bias) {
          for (std::int64_t row = begin; row < end; ++row) {
            backward_row(row, weight_and_bias, weight_and_bias + columns);
          }
        });
    add_rows(sums.column_slice(0, columns), dweight.data<T>());
    add_rows(sums.column_slice(columns, 2 * columns), dbias.data<T>());
  });
}

}  // namespace polyhead::ops::kernel
