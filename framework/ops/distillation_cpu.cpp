#include <algorithm>
#include <cmath>
#include <limits>

#include "framework/dispatch.h"
#include "framework/ops/distillation.h"
#include "framework/ops/kernels.h"
#include "framework/ops/parallel.h"
#include "framework/ops/simd.h"

namespace polyhead::ops::kernel {
namespace {

using simd::Vector;

// Of numbers that are all -inf the maximum cannot be taken off; exp(-inf - 0) is 0.
template <class T>
T origin_of(T maximum) {
  return maximum == -std::numeric_limits<T>::infinity() ? T(0) : maximum;
}

// f64 sum of body(i, lanes) over runs, so that f32 rows of any vocabulary keep their digits.
template <class T, class Body>
double long_sum(std::int64_t count, Body&& body) {
  constexpr std::int64_t kRun = 2048;
  double sum = 0;
  for (std::int64_t begin = 0; begin < count; begin += kRun) {
    sum += static_cast<double>(
        simd::sum<T>(std::min(kRun, count - begin),
                     [&](std::int64_t i, auto lanes) { return body(begin + i, lanes); }));
  }
  return sum;
}

template <class T>
double sum_of_exponentials(const T* logits, std::int64_t count, T origin, T temperature) {
  return long_sum<T>(count, [&](std::int64_t i, auto lanes) {
    return xsimd::exp((simd::load(logits + i, lanes) - Vector<T>(origin)) / Vector<T>(temperature));
  });
}

// What the teacher excludes adds nothing, however the student sees it.
template <class T>
double inner_product(const T* logits, T origin, const T* teacher, T teacher_origin,
                     std::int64_t count, T temperature) {
  const Vector<T> divisor(temperature), zero(T(0));
  return long_sum<T>(count, [&](std::int64_t i, auto lanes) {
    const Vector<T> distance = simd::load(teacher + i, lanes) - Vector<T>(teacher_origin);
    const Vector<T> probability = xsimd::exp(distance / divisor);
    const Vector<T> difference = distance - (simd::load(logits + i, lanes) - Vector<T>(origin));
    return xsimd::select(probability > zero, probability * (difference / divisor), zero);
  });
}

}  // namespace

template <>
void Distillation<Device::kCpu>::statistics(const Tensor& logits, const Tensor& teacher_logits,
                                            const Tensor& targets, std::int64_t first_id,
                                            std::int64_t valid_columns, double temperature,
                                            Tensor& statistics) {
  dispatch_cpu_float(logits.dtype(), [&]<class T>() {
    const T *first = logits.data<T>(), *first_teacher = teacher_logits.data<T>();
    const std::int32_t* target = targets.data<std::int32_t>();
    T* results = statistics.data<T>();
    const T divisor = static_cast<T>(temperature);
    parallel_pieces(logits.rows(), 2 * logits.numel(), [&](std::int64_t token) {
      const T* row = first + token * logits.row_stride();
      const T* teacher = first_teacher + token * teacher_logits.row_stride();
      const T maximum = simd::max(row, valid_columns);
      const T teacher_maximum = simd::max(teacher, valid_columns);
      const T origin = origin_of(maximum), teacher_origin = origin_of(teacher_maximum);
      const double sum = sum_of_exponentials(row, valid_columns, origin, T(1));
      const double softened =
          divisor == T(1) ? sum : sum_of_exponentials(row, valid_columns, origin, divisor);
      const std::int64_t column = target[token] - first_id;
      const bool here = target[token] >= 0 && column >= 0 && column < valid_columns;
      T* result = results + token * statistics.row_stride();
      result[0] = maximum;
      result[1] = static_cast<T>(sum);
      result[2] = static_cast<T>(softened);
      result[3] = here ? row[column] : T(0);
      result[4] = teacher_maximum;
      result[5] =
          static_cast<T>(sum_of_exponentials(teacher, valid_columns, teacher_origin, divisor));
      result[6] = static_cast<T>(
          inner_product(row, origin, teacher, teacher_origin, valid_columns, divisor));
    });
  });
}

template <>
void Distillation<Device::kCpu>::combine(const Tensor& gathered, const Tensor& targets,
                                         double temperature, Tensor& cross_entropies,
                                         Tensor& divergences, Tensor& log_sums) {
  dispatch_cpu_float(cross_entropies.dtype(), [&]<class T>() {
    const std::int64_t ranks = gathered.shape()[0], tokens = targets.numel();
    const T* statistics = gathered.data<T>();
    const std::int32_t* target = targets.data<std::int32_t>();
    T *cross_entropy = cross_entropies.data<T>(), *divergence = divergences.data<T>();
    T* log_sum = log_sums.data<T>();
    const auto of_rank = [&](std::int64_t rank, std::int64_t token, std::int64_t which) {
      return static_cast<double>(
          statistics[(rank * tokens + token) * kDistillationStatistics + which]);
    };
    parallel_pieces(tokens, gathered.numel(), [&](std::int64_t token) {
      double maximum = -std::numeric_limits<double>::infinity(), teacher_maximum = maximum;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        maximum = std::max(maximum, of_rank(rank, token, 0));
        teacher_maximum = std::max(teacher_maximum, of_rank(rank, token, 4));
      }
      double sum = 0, softened = 0, target_logit = 0, teacher_sum = 0, inner = 0;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const double below = of_rank(rank, token, 0) - maximum;
        const double teacher_below = of_rank(rank, token, 4) - teacher_maximum;
        const double factor = std::exp(teacher_below / temperature);
        const double teacher_part = of_rank(rank, token, 5);
        sum += of_rank(rank, token, 1) * std::exp(below);
        softened += of_rank(rank, token, 2) * std::exp(below / temperature);
        target_logit += of_rank(rank, token, 3);
        teacher_sum += teacher_part * factor;
        if (teacher_part == 0) continue;  // all that the teacher knows lies on other ranks
        inner += factor *
                 (of_rank(rank, token, 6) + teacher_part * ((teacher_below - below) / temperature));
      }
      const double log_softened = std::log(softened), log_teacher = std::log(teacher_sum);
      const double kl = inner / teacher_sum - log_teacher + log_softened;
      log_sum[3 * token] = static_cast<T>(maximum + std::log(sum));
      log_sum[3 * token + 1] = static_cast<T>(maximum + temperature * log_softened);
      log_sum[3 * token + 2] = static_cast<T>(teacher_maximum + temperature * log_teacher);
      const bool ignored = target[token] < 0;
      cross_entropy[token] =
          ignored ? T(0) : static_cast<T>(maximum + std::log(sum) - target_logit);
      divergence[token] = ignored ? T(0) : static_cast<T>(temperature * temperature * kl);
    });
  });
}

template <>
void Distillation<Device::kCpu>::backward(const Tensor& teacher_logits, const Tensor& targets,
                                          const Tensor& log_sums, std::int64_t first_id,
                                          std::int64_t valid_columns, double temperature,
                                          double share, double weight, Tensor& logits) {
  dispatch_cpu_float(logits.dtype(), [&]<class T>() {
    T* first = logits.data<T>();
    const T *first_teacher = teacher_logits.data<T>(), *log_sum = log_sums.data<T>();
    const std::int32_t* target = targets.data<std::int32_t>();
    const T hard_weight = static_cast<T>((1 - share) * weight);
    const Vector<T> hard(hard_weight), soft(static_cast<T>(share * temperature * weight));
    const Vector<T> divisor(static_cast<T>(temperature));
    parallel_pieces(logits.rows(), 2 * logits.numel(), [&](std::int64_t token) {
      T* row = first + token * logits.row_stride();
      const T* teacher = first_teacher + token * teacher_logits.row_stride();
      if (target[token] < 0) {
        std::fill_n(row, logits.cols(), T(0));
        return;
      }
      const Vector<T> log_denominator(log_sum[3 * token]), softened(log_sum[3 * token + 1]);
      const Vector<T> of_teacher(log_sum[3 * token + 2]);
      simd::for_each<T>(valid_columns, [&](std::int64_t i, auto lanes) {
        const Vector<T> logit = simd::load(row + i, lanes);
        const Vector<T> known = xsimd::exp((simd::load(teacher + i, lanes) - of_teacher) / divisor);
        simd::store(xsimd::exp(logit - log_denominator) * hard +
                        (xsimd::exp((logit - softened) / divisor) - known) * soft,
                    row + i, lanes);
      });
      const std::int64_t column = target[token] - first_id;
      if (column >= 0 && column < valid_columns) row[column] -= hard_weight;
      std::fill(row + valid_columns, row + logits.cols(), T(0));
    });
  });
}

}  // namespace polyhead::ops::kernel
