#include <algorithm>
#include <bit>
#include <limits>

#include "framework/cuda/cluster.cuh"
#include "framework/cuda/launch.cuh"
#include "framework/cuda/math.cuh"
#include "framework/cuda/packs.cuh"
#include "framework/ops/cross_entropy_rows.cuh"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

using cuda::Pack;
using logit_rows::combine, logit_rows::kThreads, logit_rows::Row, logit_rows::Softmax;

constexpr std::size_t kStaticBytes =
    logit_rows::kScratchBytes + cuda::kMostClusterBlocks * sizeof(float2);

template <class T>
__global__ void __launch_bounds__(kThreads)
    statistics_kernel(const T* logits, std::int64_t stride, const std::int32_t* targets,
                      std::int64_t first_id, int valid_columns, float* statistics,
                      std::int64_t statistics_stride) {
  const std::int64_t token = blockIdx.x;
  const T* const row = logits + token * stride;
  float target_logit = 0;
  if (threadIdx.x == 0) {
    const std::int32_t target = targets[token];
    const std::int64_t column = target - first_id;
    if (target >= 0 && column >= 0 && column < valid_columns) {
      target_logit = cuda::to_float(row[column]);
    }
  }
  Softmax<T> softmax;
  Row<T>(row, valid_columns)
      .for_each_batch([&](int, const auto& packs) { softmax.add(packs); },
                      [&](int column) { softmax.add(cuda::to_float(row[column])); });
  const float2 result = softmax.reduce();
  if (threadIdx.x > 0) return;
  float* const to = statistics + token * statistics_stride;
  to[0] = result.x;
  to[1] = result.y;
  to[2] = target_logit;
}

// loss = (maximum - target logit) + log(sum): the difference of two large numbers comes first, so
// that f32 is enough.
__global__ void combine_kernel(const float* gathered, std::int64_t ranks, std::int64_t tokens,
                               const std::int32_t* targets, float* losses, float* lse) {
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (token >= tokens) return;
  float maximum = -std::numeric_limits<float>::infinity();
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    maximum = fmaxf(maximum, gathered[(rank * tokens + token) * 3]);
  }
  float sum = 0, target_logit = 0;
  for (std::int64_t rank = 0; rank < ranks; ++rank) {
    const float* const part = gathered + (rank * tokens + token) * 3;
    sum += part[1] * expf(part[0] - maximum);
    target_logit += part[2];
  }
  const float log_sum = logf(sum);
  lse[token] = maximum + log_sum;
  losses[token] = targets[token] < 0 ? 0.0f : (maximum - target_logit) + log_sum;
}

template <class T>
__global__ void __launch_bounds__(kThreads)
    backward_kernel(const std::int32_t* targets, const float* lse, std::int64_t first_id,
                    int valid_columns, float weight, T* logits, std::int64_t stride, int columns) {
  // The last rows first: the pass over the statistics has left those in the cache.
  const std::int64_t token = gridDim.x - 1 - blockIdx.x;
  T* const row = logits + token * stride;
  const std::int32_t target = targets[token];
  const bool ignored = target < 0;
  const std::int64_t target_column = target - first_id;
  const float log_denominator = lse[token];
  const auto gradient = [&](float logit, int column) {
    const float probability = cuda::exponential<T>(logit, log_denominator) * weight;
    const float result = column == target_column ? probability - weight : probability;
    return ignored || column >= valid_columns ? 0.0f : result;
  };
  Row<T>(row, columns)
      .for_each(
          [&](int column, const Pack<T>& pack) {
            Pack<T> result;
            result.assign([&](int i) { return gradient(pack[i], column + i); });
            cuda::store_pack(result, row + column);
          },
          [&](int column) {
            row[column] = cuda::from_float<T>(gradient(cuda::to_float(row[column]), column));
          });
}

// The blocks of a cluster, one unless kShared, have `part_columns` of a row each. A part waits in
// its block's shared memory between the softmax and the gradient.
template <class T, bool kShared>
__global__ void __launch_bounds__(kThreads)
    loss_and_gradient_kernel(const std::int32_t* targets, int valid_columns, int part_columns,
                             float weight, T* logits, std::int64_t stride, int columns,
                             float* losses, float* lse) {
  if constexpr (kShared) cuda::cluster_arrive();  // says no more than that this block runs
  cuda::wait_for_work_before();
  extern __shared__ uint4 memory[];
  const int rank = kShared ? cuda::cluster_rank() : 0, ranks = kShared ? cuda::cluster_size() : 1;
  // The last rows first: the product that made the logits has left those in the cache.
  const std::int64_t token = (gridDim.x - 1 - blockIdx.x) / ranks;
  const int first = rank * part_columns, count = max(0, min(part_columns, valid_columns - first));
  T* const row = logits + token * stride;
  T* const part = row + first;
  // As far from a 16-byte border as the part, so that both have the same packs.
  T* const copy = reinterpret_cast<T*>(reinterpret_cast<unsigned char*>(memory) +
                                       reinterpret_cast<std::uintptr_t>(part) % cuda::kPackBytes);
  const std::int32_t target = targets[token];
  const bool ignored = target < 0, has_target = !ignored && target < valid_columns;
  const bool tells_loss = threadIdx.x == 0 && rank == (has_target ? target / part_columns : 0);
  float target_logit = 0;
  if (tells_loss && has_target) target_logit = cuda::to_float(row[target]);

  Softmax<T> softmax;
  Row<T>(part, count)
      .for_each_batch(
          [&]<int kCount>(int column, const Pack<T>(&packs)[kCount]) {
#pragma unroll
            for (int k = 0; k < kCount; ++k) {
              *reinterpret_cast<Pack<T>*>(copy + column + k * Row<T>::kStep) = packs[k];
            }
            softmax.add(packs);
          },
          [&](int column) {
            copy[column] = part[column];
            softmax.add(cuda::to_float(part[column]));
          });
  float2 all = softmax.reduce();
  if constexpr (kShared) {
    __shared__ float2 parts[cuda::kMostClusterBlocks];  // maximum and sum of each
    cuda::cluster_wait();
    if (static_cast<int>(threadIdx.x) < ranks) {
      cuda::store_in_cluster(parts + rank, static_cast<int>(threadIdx.x), all);
    }
    cuda::cluster_arrive();
    cuda::cluster_wait();
    all = combine<T>(parts, ranks);
  }
  const auto [maximum, sum] = all;
  const float log_sum = logf(sum), log_denominator = maximum + log_sum;

  // With the weight in the exponent, which saves a product for every element.
  const float origin = log_denominator - logf(weight);
  const auto probability = [&](float logit) { return cuda::exponential<T>(logit, origin); };
  Row<T>(copy, count)
      .for_each(
          [&](int column, const Pack<T>& pack) {
            Pack<T> result;
            result.assign([&](int i) { return probability(pack[i]); });
            if (ignored) result.assign([](int) { return 0.0f; });
            cuda::store_pack(result, part + column);
          },
          [&](int column) {
            const float result = ignored ? 0.0f : probability(cuda::to_float(copy[column]));
            part[column] = cuda::from_float<T>(result);
          });
  if (rank == 0) {
    for (int column = valid_columns + static_cast<int>(threadIdx.x); column < columns;
         column += kThreads) {
      row[column] = cuda::from_float<T>(0.0f);
    }
  }
  __syncthreads();  // the target's column has been written as any other
  if (!tells_loss) return;
  if (has_target) row[target] = cuda::from_float<T>(probability(target_logit) - weight);
  lse[token] = log_denominator;
  losses[token] = ignored ? 0.0f : (maximum - target_logit) + log_sum;
}

// How many blocks share a row of `bytes`: where one has no room for it, as many as leave room for
// two blocks on a multiprocessor, so that one reads or writes while the other computes.
int blocks_of_row(std::size_t bytes) {
  constexpr std::size_t kPartBytes = std::size_t{104} << 10;
  const auto parts = std::bit_ceil((bytes + kPartBytes - 1) / kPartBytes);
  return static_cast<int>(
      std::min<std::size_t>(parts, static_cast<std::size_t>(cuda::most_cluster_blocks())));
}

}  // namespace

template <>
void CrossEntropy<Device::kCuda>::statistics(const Tensor& logits, const Tensor& targets,
                                             std::int64_t first_id, std::int64_t valid_columns,
                                             Tensor& statistics) {
  if (logits.rows() == 0) return;
  cuda::dispatch_float(logits.dtype(), [&]<class T>() {
    statistics_kernel<T>
        <<<static_cast<unsigned>(logits.rows()), kThreads, 0, cuda::Context::instance().stream()>>>(
            logits.data<T>(), logits.row_stride(), targets.data<std::int32_t>(), first_id,
            static_cast<int>(valid_columns), statistics.data<float>(), statistics.row_stride());
    cuda::check_launch("cross_entropy_statistics");
  });
}

template <>
void CrossEntropy<Device::kCuda>::combine(const Tensor& gathered, const Tensor& targets,
                                          Tensor& losses, Tensor& lse) {
  const std::int64_t tokens = targets.numel();
  if (tokens == 0) return;
  constexpr int kTokensPerBlock = 128;
  const auto blocks = static_cast<unsigned>((tokens + kTokensPerBlock - 1) / kTokensPerBlock);
  combine_kernel<<<blocks, kTokensPerBlock, 0, cuda::Context::instance().stream()>>>(
      gathered.data<float>(), gathered.shape()[0], tokens, targets.data<std::int32_t>(),
      losses.data<float>(), lse.data<float>());
  cuda::check_launch("cross_entropy_combine");
}

template <>
void CrossEntropy<Device::kCuda>::backward(const Tensor& targets, const Tensor& lse,
                                           std::int64_t first_id, std::int64_t valid_columns,
                                           double weight, Tensor& logits) {
  if (logits.rows() == 0) return;
  cuda::dispatch_float(logits.dtype(), [&]<class T>() {
    backward_kernel<T>
        <<<static_cast<unsigned>(logits.rows()), kThreads, 0, cuda::Context::instance().stream()>>>(
            targets.data<std::int32_t>(), lse.data<float>(), first_id,
            static_cast<int>(valid_columns), static_cast<float>(weight), logits.data<T>(),
            logits.row_stride(), static_cast<int>(logits.cols()));
    cuda::check_launch("cross_entropy_backward");
  });
}

template <>
bool CrossEntropy<Device::kCuda>::loss_and_gradient(const Tensor& targets,
                                                    std::int64_t valid_columns, double weight,
                                                    Tensor& logits, Tensor& losses, Tensor& lse) {
  if (logits.rows() == 0) return true;
  return cuda::dispatch_float(logits.dtype(), [&]<class T>() {
    const auto columns = static_cast<std::size_t>(valid_columns);
    const int blocks = blocks_of_row(columns * sizeof(T));
    constexpr std::size_t kUnit = 64;  // keeps the parts at borders of cache lines
    const auto units = (columns + kUnit * blocks - 1) / (kUnit * blocks);
    const auto part_columns = static_cast<int>(kUnit * units);
    const auto bytes = static_cast<std::size_t>(part_columns) * sizeof(T) + cuda::kPackBytes;
    if (bytes + kStaticBytes > cuda::Context::instance().shared_bytes_of_block()) return false;
    const auto kernel =
        blocks > 1 ? loss_and_gradient_kernel<T, true> : loss_and_gradient_kernel<T, false>;
    POLYHEAD_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(bytes)));
    cuda::launch_clusters(
        "cross_entropy_loss_and_gradient", kernel, static_cast<unsigned>(logits.rows() * blocks),
        blocks, kThreads, bytes, targets.data<std::int32_t>(), static_cast<int>(valid_columns),
        part_columns, static_cast<float>(weight), logits.data<T>(), logits.row_stride(),
        static_cast<int>(logits.cols()), losses.data<float>(), lse.data<float>());
    return true;
  });
}

}  // namespace polyhead::ops::kernel
