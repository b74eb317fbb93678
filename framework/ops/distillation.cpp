#include "framework/ops/distillation.h"

#include "framework/dispatch.h"
#include "framework/ops/checks.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {
namespace {

void check_logits(const Tensor& logits, const Tensor& teacher_logits, const Tensor& targets,
                  std::int64_t valid_columns, double temperature) {
  check_matrix("distillation: teacher_logits", teacher_logits, logits.rows(), teacher_logits.cols(),
               logits);
  check_matrix("distillation: targets", targets, 1, logits.rows(), DType::kI32, logits.device());
  POLYHEAD_CHECK(0 <= valid_columns && valid_columns <= logits.cols() &&
                     valid_columns <= teacher_logits.cols(),
                 "distillation: {} columns of {} and {}", valid_columns, logits.cols(),
                 teacher_logits.cols());
  POLYHEAD_CHECK(temperature > 0, "distillation: temperature {}", temperature);
}

}  // namespace

void distillation_statistics(const Tensor& logits, const Tensor& teacher_logits,
                             const Tensor& targets, std::int64_t first_id,
                             std::int64_t valid_columns, double temperature, Tensor& statistics) {
  check_logits(logits, teacher_logits, targets, valid_columns, temperature);
  check_accumulated("distillation: statistics", statistics, logits.rows(), kDistillationStatistics,
                    logits);
  dispatch(logits.device(), [&]<Device D>() {
    kernel::Distillation<D>::statistics(logits, teacher_logits, targets, first_id, valid_columns,
                                        temperature, statistics);
  });
}

void distillation_combine(const Tensor& gathered, const Tensor& targets, double temperature,
                          Tensor& cross_entropies, Tensor& divergences, Tensor& log_sums) {
  const std::int64_t tokens = targets.numel();
  POLYHEAD_CHECK(gathered.shape().rank() == 3 && gathered.is_contiguous(),
                 "distillation: gathered is {}", gathered.shape().to_string());
  check_matrix("distillation: gathered", gathered, gathered.shape()[0] * tokens,
               kDistillationStatistics, cross_entropies);
  check_matrix("distillation: targets", targets, 1, tokens, DType::kI32, cross_entropies.device());
  check_matrix("distillation: cross_entropies", cross_entropies, 1, tokens, cross_entropies);
  check_matrix("distillation: divergences", divergences, 1, tokens, cross_entropies);
  check_matrix("distillation: log_sums", log_sums, tokens, 3, cross_entropies);
  POLYHEAD_CHECK(log_sums.is_contiguous(), "distillation: log_sums are strided");
  dispatch(cross_entropies.device(), [&]<Device D>() {
    kernel::Distillation<D>::combine(gathered, targets, temperature, cross_entropies, divergences,
                                     log_sums);
  });
}

void distillation_backward(const Tensor& teacher_logits, const Tensor& targets,
                           const Tensor& log_sums, std::int64_t first_id,
                           std::int64_t valid_columns, double temperature, double share,
                           double weight, Tensor& logits) {
  check_logits(logits, teacher_logits, targets, valid_columns, temperature);
  check_accumulated("distillation: log_sums", log_sums, logits.rows(), 3, logits);
  POLYHEAD_CHECK(log_sums.is_contiguous(), "distillation: log_sums are strided");
  dispatch(logits.device(), [&]<Device D>() {
    kernel::Distillation<D>::backward(teacher_logits, targets, log_sums, first_id, valid_columns,
                                      temperature, share, weight, logits);
  });
}

}  // namespace polyhead::ops
