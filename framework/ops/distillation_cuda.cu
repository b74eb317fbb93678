#include <limits>

#include "framework/cuda/math.cuh"
#include "framework/cuda/packs.cuh"
#include "framework/cuda/reduce.cuh"
#include "framework/ops/distillation.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

using cuda::Pack;

constexpr int kThreads = 512;  // of a block, which has one row
constexpr int kBatch = 2;      // packs of either row that a thread loads at once

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The same columns of a student's and a teacher's row: in packs where both rows begin at 16-byte
// borders, else one by one.
template <class T, int kSize>
struct RowPair {
  const T* logits;
  const T* teacher;
  int columns;

  // Calls visit(column, logits, teacher) with kSize neighbours, and with single ones at the end.
  template <class Visit>
  __device__ __forceinline__ void for_each(const Visit& visit) const {
    const int packs = columns / kSize;
    for (int first = static_cast<int>(threadIdx.x); first < packs; first += kBatch * kThreads) {
      Pack<T, kSize> own[kBatch], known[kBatch];
#pragma unroll
      for (int k = 0; k < kBatch; ++k) {
        const int pack = first + k * kThreads;
        if (pack < packs) {
          own[k] = cuda::load_pack<T, kSize>(logits + pack * kSize);
          known[k] = cuda::load_pack<T, kSize>(teacher + pack * kSize);
        }
      }
#pragma unroll
      for (int k = 0; k < kBatch; ++k) {
        const int pack = first + k * kThreads;
        if (pack < packs) visit(pack * kSize, own[k], known[k]);
      }
    }
    const int column = packs * kSize + static_cast<int>(threadIdx.x);
    if (column < columns) {
      visit(column, cuda::load_pack<T, 1>(logits + column),
            cuda::load_pack<T, 1>(teacher + column));
    }
  }
};

// Of numbers that are all -inf the maximum cannot be taken off; exp(-inf - 0) is 0.
__device__ __forceinline__ float origin_of(float maximum) {
  return maximum == -kInfinity ? 0.0f : maximum;
}

// Pass one finds both maxima, pass two, whose rows are in the cache, adds. fmaxf skips a NaN, which
// reaches the sums instead.
template <class T, int kSize>
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(const T* logits, std::int64_t stride, const T* teacher_logits,
                      std::int64_t teacher_stride, const std::int32_t* targets,
                      std::int64_t first_id, int valid_columns, float inverse_temperature,
                      float* statistics, std::int64_t statistics_stride) {
  __shared__ float scratch[kThreads / cuda::kWarpSize];
  const std::int64_t token = blockIdx.x;
  const T* const row = logits + token * stride;
  const RowPair<T, kSize> pair{row, teacher_logits + token * teacher_stride, valid_columns};
  float maximum = -kInfinity, teacher_maximum = -kInfinity;
  pair.for_each([&](int, const auto& own, const auto& known) {
#pragma unroll
    for (int i = 0; i < own.kSize; ++i) {
      maximum = fmaxf(maximum, own[i]);
      teacher_maximum = fmaxf(teacher_maximum, known[i]);
    }
  });
  const auto larger = [](float a, float b) { return fmaxf(a, b); };
  maximum = cuda::block_reduce(maximum, larger, -kInfinity, scratch);
  teacher_maximum = cuda::block_reduce(teacher_maximum, larger, -kInfinity, scratch);

  const float origin = origin_of(maximum), teacher_origin = origin_of(teacher_maximum);
  const bool softens = inverse_temperature != 1.0f;
  float sum = 0, softened = 0, teacher_sum = 0, inner = 0;
  pair.for_each([&](int, const auto& own, const auto& known) {
#pragma unroll
    for (int i = 0; i < own.kSize; ++i) {
      const float below = own[i] - origin, teacher_below = known[i] - teacher_origin;
      sum += cuda::exponential<T>(below);
      if (softens) softened += cuda::exponential<T>(below * inverse_temperature);
      const float probability = cuda::exponential<T>(teacher_below * inverse_temperature);
      teacher_sum += probability;
      // What the teacher excludes adds nothing, however the student sees it.
      if (probability > 0) inner += probability * ((teacher_below - below) * inverse_temperature);
    }
  });
  sum = cuda::block_reduce(sum, cuda::Sum{}, 0.0f, scratch);
  if (softens) softened = cuda::block_reduce(softened, cuda::Sum{}, 0.0f, scratch);
  teacher_sum = cuda::block_reduce(teacher_sum, cuda::Sum{}, 0.0f, scratch);
  inner = cuda::block_reduce(inner, cuda::Sum{}, 0.0f, scratch);
  if (threadIdx.x > 0) return;
  const std::int32_t target = targets[token];
  const std::int64_t column = target - first_id;
  const bool here = target >= 0 && column >= 0 && column < valid_columns;
  float* const to = statistics + token * statistics_stride;
  to[0] = maximum;
  to[1] = sum;
  to[2] = softens ? softened : sum;
  to[3] = here ? cuda::to_float(row[column]) : 0.0f;
  to[4] = teacher_maximum;
  to[5] = teacher_sum;
  to[6] = inner;
}

// The difference of two large numbers comes first, so that f32 is enough.
__global__ void combine_kernel(const float* gathered, std::int64_t ranks, std::int64_t tokens,
                               const std::int32_t* targets, float temperature,
                               float inverse_temperature, float* cross_entropies,
                               float* divergences, float* log_sums) {
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (token >= tokens) return;
  const auto of_rank = [&](std::int64_t rank) {
    return gathered + (rank * tokens + token) * kDistillationStatistics;
  };
  float maximum = -kInfinity, teacher_maximum = -kInfinity;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    maximum = fmaxf(maximum, of_rank(rank)[0]);
    teacher_maximum = fmaxf(teacher_maximum, of_rank(rank)[4]);
  }
  float sum = 0, softened = 0, target_logit = 0, teacher_sum = 0, inner = 0;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const float* const part = of_rank(rank);
    const float below = part[0] - maximum, teacher_below = part[4] - teacher_maximum;
    const float factor = expf(teacher_below * inverse_temperature);
    sum += part[1] * expf(below);
    softened += part[2] * expf(below * inverse_temperature);
    target_logit += part[3];
    teacher_sum += part[5] * factor;
    if (part[5] == 0) continue;  // all that the teacher knows lies on other ranks
    inner += factor * (part[6] + part[5] * ((teacher_below - below) * inverse_temperature));
  }
  const float log_sum = logf(sum), log_softened = logf(softened), log_teacher = logf(teacher_sum);
  float* const to = log_sums + 3 * token;
  to[0] = maximum + log_sum;
  to[1] = maximum + temperature * log_softened;
  to[2] = teacher_maximum + temperature * log_teacher;
  const bool ignored = targets[token] < 0;
  cross_entropies[token] = ignored ? 0.0f : (maximum - target_logit) + log_sum;
  divergences[token] =
      ignored ? 0.0f
              : temperature * temperature * (inner / teacher_sum + (log_softened - log_teacher));
}

template <class T, int kSize>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const T* teacher_logits, std::int64_t teacher_stride,
                    const std::int32_t* targets, const float* log_sums, std::int64_t first_id,
                    int valid_columns, float inverse_temperature, float hard, float soft, T* logits,
                    std::int64_t stride, int columns) {
  // The last rows first: the pass over the statistics has left those in the cache.
  const std::int64_t token = gridDim.x - 1 - blockIdx.x;
  T* const row = logits + token * stride;
  const std::int32_t target = targets[token];
  const bool ignored = target < 0;
  const std::int64_t target_column = target - first_id;
  const float log_denominator = log_sums[3 * token], softened = log_sums[3 * token + 1];
  const float of_teacher = log_sums[3 * token + 2];
  const RowPair<T, kSize> pair{row, teacher_logits + token * teacher_stride, valid_columns};
  pair.for_each([&](int column, const auto& own, const auto& known) {
    std::remove_cvref_t<decltype(own)> result;
    result.assign([&](int i) {
      const float probability = cuda::exponential<T>(own[i] - log_denominator);
      const float student = cuda::exponential<T>((own[i] - softened) * inverse_temperature);
      const float teacher = cuda::exponential<T>((known[i] - of_teacher) * inverse_temperature);
      const float one = column + i == target_column ? probability - 1.0f : probability;
      return ignored ? 0.0f : one * hard + (student - teacher) * soft;
    });
    cuda::store_pack(result, row + column);
  });
  const auto padding = valid_columns + static_cast<int>(threadIdx.x);
  for (int column = padding; column < columns; column += kThreads) {
    row[column] = cuda::from_float<T>(0.0f);
  }
}

// Calls body.operator()<T, kSize>() with the packs that both matrices allow.
template <class Body>
void dispatch_rows(const Tensor& logits, const Tensor& teacher_logits, Body&& body) {
  cuda::dispatch_float(logits.dtype(), [&]<class T>() {
    const bool aligned = cuda::is_aligned(logits) && cuda::is_aligned(teacher_logits);
    cuda::with_pack_size<T>(aligned, [&]<int kSize>() { body.template operator()<T, kSize>(); });
  });
}

}  // namespace

template <>
void Distillation<Device::kCuda>::statistics(const Tensor& logits, const Tensor& teacher_logits,
                                             const Tensor& targets, std::int64_t first_id,
                                             std::int64_t valid_columns, double temperature,
                                             Tensor& statistics) {
  if (logits.rows() == 0) return;
  dispatch_rows(logits, teacher_logits, [&]<class T, int kSize>() {
    statistics_kernel<T, kSize>
        <<<static_cast<unsigned>(logits.rows()), kThreads, 0, cuda::Context::instance().stream()>>>(
            logits.data<T>(), logits.row_stride(), teacher_logits.data<T>(),
            teacher_logits.row_stride(), targets.data<std::int32_t>(), first_id,
            static_cast<int>(valid_columns), static_cast<float>(1 / temperature),
            statistics.data<float>(), statistics.row_stride());
    cuda::check_launch("distillation_statistics");
  });
}

template <>
void Distillation<Device::kCuda>::combine(const Tensor& gathered, const Tensor& targets,
                                          double temperature, Tensor& cross_entropies,
                                          Tensor& divergences, Tensor& log_sums) {
  const std::int64_t tokens = targets.numel();
  if (tokens == 0) return;
  constexpr int kTokensPerBlock = 128;
  const auto blocks = static_cast<unsigned>((tokens + kTokensPerBlock - 1) / kTokensPerBlock);
  combine_kernel<<<blocks, kTokensPerBlock, 0, cuda::Context::instance().stream()>>>(
      gathered.data<float>(), gathered.shape()[0], tokens, targets.data<std::int32_t>(),
      static_cast<float>(temperature), static_cast<float>(1 / temperature),
      cross_entropies.data<float>(), divergences.data<float>(), log_sums.data<float>());
  cuda::check_launch("distillation_combine");
}

template <>
void Distillation<Device::kCuda>::backward(const Tensor& teacher_logits, const Tensor& targets,
                                           const Tensor& log_sums, std::int64_t first_id,
                                           std::int64_t valid_columns, double temperature,
                                           double share, double weight, Tensor& logits) {
  if (logits.rows() == 0) return;
  dispatch_rows(logits, teacher_logits, [&]<class T, int kSize>() {
    backward_kernel<T, kSize>
        <<<static_cast<unsigned>(logits.rows()), kThreads, 0, cuda::Context::instance().stream()>>>(
            teacher_logits.data<T>(), teacher_logits.row_stride(), targets.data<std::int32_t>(),
            log_sums.data<float>(), first_id, static_cast<int>(valid_columns),
            static_cast<float>(1 / temperature), static_cast<float>((1 - share) * weight),
            static_cast<float>(share * temperature * weight), logits.data<T>(), logits.row_stride(),
            static_cast<int>(logits.cols()));
    cuda::check_launch("distillation_backward");
  });
}

}  // namespace polyhead::ops::kernel
