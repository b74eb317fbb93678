#include "framework/ops/cross_entropy.h"

#include <algorithm>
#include <limits>

#include "framework/dispatch.h"
#include "framework/ops/checks.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {
namespace {

void check_logits(const Tensor& logits, const Tensor& targets, std::int64_t valid_columns) {
  check_matrix("cross_entropy: targets", targets, 1, logits.rows(), DType::kI32, logits.device());
  POLYHEAD_CHECK(0 <= valid_columns && valid_columns <= logits.cols(),
                 "cross_entropy: {} columns of {}", valid_columns, logits.cols());
}

void check_weight(double weight) {
  POLYHEAD_CHECK(weight >= 0, "cross_entropy: weight {}", weight);
}

void check_gathered(const Tensor& gathered, const Tensor& targets) {
  const std::int64_t tokens = targets.numel();
  POLYHEAD_CHECK(gathered.shape().rank() == 3 && gathered.is_contiguous(),
                 "cross_entropy: gathered is {}", gathered.shape().to_string());
  check_matrix("cross_entropy: gathered", gathered, gathered.shape()[0] * tokens, 3, gathered);
  check_matrix("cross_entropy: targets", targets, 1, tokens, DType::kI32, gathered.device());
}

}  // namespace

void cross_entropy_statistics(const Tensor& logits, const Tensor& targets, std::int64_t first_id,
                              std::int64_t valid_columns, Tensor& statistics) {
  check_logits(logits, targets, valid_columns);
  check_accumulated("cross_entropy: statistics", statistics, logits.rows(), 3, logits);
  dispatch(logits.device(), [&]<Device D>() {
    kernel::CrossEntropy<D>::statistics(logits, targets, first_id, valid_columns, statistics);
  });
}

void cross_entropy_combine(const Tensor& gathered, const Tensor& targets, Tensor& losses,
                           Tensor& lse) {
  const std::int64_t tokens = targets.numel();
  check_gathered(gathered, targets);
  check_matrix("cross_entropy: losses", losses, 1, tokens, gathered);
  check_matrix("cross_entropy: lse", lse, 1, tokens, gathered);
  dispatch(losses.device(),
           [&]<Device D>() { kernel::CrossEntropy<D>::combine(gathered, targets, losses, lse); });
}

Tensor cross_entropy_greedy(const Tensor& gathered, const Tensor& targets) {
  check_gathered(gathered, targets);
  const std::int64_t ranks = gathered.shape()[0], tokens = targets.numel();
  const Tensor statistics = gathered.to(Device::kCpu), ids = targets.to(Device::kCpu);
  Tensor greedy = Tensor::empty({tokens}, DType::kI32);
  dispatch_cpu_float(statistics.dtype(), [&]<class T>() {
    for (std::int64_t token = 0; token < tokens; ++token) {
      T maximum = -std::numeric_limits<T>::infinity(), target_logit = 0;
      for (std::int64_t rank = 0; rank < ranks; ++rank) {
        const T* part = statistics.data<T>() + (rank * tokens + token) * 3;
        maximum = std::max(maximum, part[0]);
        target_logit += part[2];
      }
      const bool counts = ids.data<std::int32_t>()[token] >= 0;
      greedy.data<std::int32_t>()[token] = counts && target_logit >= maximum;
    }
  });
  return greedy;
}

void cross_entropy_backward(const Tensor& targets, const Tensor& lse, std::int64_t first_id,
                            std::int64_t valid_columns, double weight, Tensor& logits) {
  check_logits(logits, targets, valid_columns);
  check_weight(weight);
  check_accumulated("cross_entropy: lse", lse, 1, logits.rows(), logits);
  dispatch(logits.device(), [&]<Device D>() {
    kernel::CrossEntropy<D>::backward(targets, lse, first_id, valid_columns, weight, logits);
  });
}

void cross_entropy_loss_and_gradient(const Tensor& targets, std::int64_t valid_columns,
                                     double weight, Tensor& logits, Tensor& losses, Tensor& lse) {
  check_logits(logits, targets, valid_columns);
  check_weight(weight);
  check_accumulated("cross_entropy: losses", losses, 1, logits.rows(), logits);
  check_accumulated("cross_entropy: lse", lse, 1, logits.rows(), logits);
  const bool done = dispatch(logits.device(), [&]<Device D>() {
    return kernel::CrossEntropy<D>::loss_and_gradient(targets, valid_columns, weight, logits,
                                                      losses, lse);
  });
  if (done) return;
  Tensor statistics = Tensor::empty_accumulator(logits, {logits.rows(), 3});
  cross_entropy_statistics(logits, targets, 0, valid_columns, statistics);
  cross_entropy_combine(statistics.reshaped({1, logits.rows(), 3}), targets, losses, lse);
  cross_entropy_backward(targets, lse, 0, valid_columns, weight, logits);
}

}  // namespace polyhead::ops
