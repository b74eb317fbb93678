#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"
#include "framework/ops/parallel.h"
#include "framework/ops/simd.h"

namespace polyhead::ops::kernel {
namespace {

using simd::Vector;

template <class T>
struct Softmax {
  T maximum = -std::numeric_limits<T>::infinity();
  double sum = 0;  // of exp(logit - maximum)
};

// One pass over memory: runs that fit the first-level cache are read twice, the running sum is
// rescaled when a run raises the maximum (Milakov and Gimelshein 2018), and the next run is fetched
// under the exponentials of this one. A NaN that max() may hide reaches the sum.
template <class T>
Softmax<T> softmax_statistics(const T* logits, std::int64_t count) {
  constexpr std::int64_t kRun = 2048;
  Softmax<T> result;
  for (std::int64_t begin = 0; begin < count; begin += kRun) {
    const T* run = logits + begin;
    const std::int64_t length = std::min(kRun, count - begin);
    const T raised = std::max(result.maximum, simd::max(run, length));
    if (raised > result.maximum) {
      result.sum *= std::exp(static_cast<double>(result.maximum) - static_cast<double>(raised));
      result.maximum = raised;
    }
    const Vector<T> maximum(result.maximum);
    result.sum += static_cast<double>(simd::sum<T>(length, [&](std::int64_t i, auto lanes) {
      __builtin_prefetch(run + kRun + i);
      return xsimd::exp(simd::load(run + i, lanes) - maximum);
    }));
  }
  return result;
}

}  // namespace

template <>
void CrossEntropy<Device::kCpu>::statistics(const Tensor& logits, const Tensor& targets,
                                            std::int64_t first_id, std::int64_t valid_columns,
                                            Tensor& statistics) {
  dispatch_cpu_float(logits.dtype(), [&]<class T>() {
    const T* first = logits.data<T>();
    const std::int32_t* target = targets.data<std::int32_t>();
    T* results = statistics.data<T>();
    parallel_pieces(logits.rows(), logits.numel(), [&](std::int64_t token) {
      const T* row = first + token * logits.row_stride();
      const Softmax<T> softmax = softmax_statistics(row, valid_columns);
      const std::int64_t column = target[token] - first_id;
      const bool here = target[token] >= 0 && column >= 0 && column < valid_columns;
      T* result = results + token * statistics.row_stride();
      result[0] = softmax.maximum;
      result[1] = static_cast<T>(softmax.sum);
      result[2] = here ? row[column] : T(0);
    });
  });
}

template <>
void CrossEntropy<Device::kCpu>::combine(const Tensor& gathered, const Tensor& targets,
                                         Tensor& losses, Tensor& lse) {
  dispatch_cpu_float(losses.dtype(), [&]<class T>() {
    const std::int64_t ranks = gathered.shape()[0], tokens = targets.numel();
    const T* statistics = gathered.data<T>();
    const std::int32_t* target = targets.data<std::int32_t>();
    T *loss = losses.data<T>(), *log_sum = lse.data<T>();
    const auto of_rank = [&](std::int64_t rank, std::int64_t token) {
      return statistics + (rank * tokens + token) * 3;
    };
    parallel_pieces(tokens, ranks * tokens * 3, [&](std::int64_t token) {
      double maximum = -std::numeric_limits<double>::infinity();
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        maximum = std::max(maximum, static_cast<double>(of_rank(rank, token)[0]));
      }
      double sum = 0, target_logit = 0;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const T* part = of_rank(rank, token);
        sum += static_cast<double>(part[1]) * std::exp(static_cast<double>(part[0]) - maximum);
        target_logit += static_cast<double>(part[2]);
      }
      const double log_denominator = maximum + std::log(sum);
      log_sum[token] = static_cast<T>(log_denominator);
      loss[token] = target[token] < 0 ? T(0) : static_cast<T>(log_denominator - target_logit);
    });
  });
}

template <>
void CrossEntropy<Device::kCpu>::backward(const Tensor& targets, const Tensor& lse,
                                          std::int64_t first_id, std::int64_t valid_columns,
                                          double weight, Tensor& logits) {
  dispatch_cpu_float(logits.dtype(), [&]<class T>() {
    T* first = logits.data<T>();
    const std::int32_t* target = targets.data<std::int32_t>();
    const T* log_sum = lse.data<T>();
    const Vector<T> factor(static_cast<T>(weight));
    parallel_pieces(logits.rows(), logits.numel(), [&](std::int64_t token) {
      T* row = first + token * logits.row_stride();
      if (target[token] < 0) {
        std::fill_n(row, logits.cols(), T(0));
        return;
      }
      const Vector<T> log_denominator(log_sum[token]);
      simd::for_each<T>(valid_columns, [&](std::int64_t i, auto lanes) {
        simd::store(xsimd::exp(simd::load(row + i, lanes) - log_denominator) * factor, row + i,
                    lanes);
      });
      const std::int64_t column = target[token] - first_id;
      if (column >= 0 && column < valid_columns) row[column] -= static_cast<T>(weight);
      std::fill(row + valid_columns, row + logits.cols(), T(0));
    });
  });
}

template <>
bool CrossEntropy<Device::kCpu>::loss_and_gradient(const Tensor&, std::int64_t, double, Tensor&,
                                                   Tensor&, Tensor&) {
  return false;
}

}  // namespace polyhead::ops::kernel
