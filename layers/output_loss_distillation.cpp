// The output loss of a student that also learns a teacher's predictions.
#include <algorithm>
#include <utility>

#include "framework/ops/distillation.h"
#include "framework/ops/elementwise.h"
#include "framework/ops/matmul.h"
#include "layers/output_loss.h"

namespace polyhead {

void OutputLoss::loss_and_gradient(const Tensor& h, const Teacher& teacher, const Tensor& targets,
                                   double weight, Tensor& losses, Tensor& dh) {
  using enum ops::Transpose;
  Parameter& parameter = head();
  POLYHEAD_CHECK(teacher.head.head().global_shape[0] == parameter.global_shape[0],
                 "a teacher of {} tokens for {}", teacher.head.head().global_shape[0],
                 parameter.global_shape[0]);
  const Tensor all_h = parallel_.enter(h);
  const Tensor teacher_h = teacher.head.parallel_.enter(teacher.h);
  Tensor all_dh = Tensor::empty_like(all_h);
  Tensor cross_entropy = losses.row_slice(0, 1), divergence = losses.row_slice(1, 2);
  Crossing leaving;
  const std::int64_t valid = parameter.shard_end - parameter.shard_begin;
  const std::int64_t tokens = chunk_tokens(all_h.rows());
  for (std::int64_t begin = 0; begin < all_h.rows(); begin += tokens) {
    const std::int64_t end = std::min(all_h.rows(), begin + tokens), rows = end - begin;
    const Tensor chunk_h = all_h.row_slice(begin, end);
    const Tensor chunk_targets = targets.row_slice(begin, end);
    Tensor logits = capped_logits(chunk_h);
    const Tensor known = teacher.head.capped_logits(teacher_h.row_slice(begin, end));
    const Tensor capped = softcap_ > 0 ? logits.clone() : Tensor();

    Tensor statistics = Tensor::empty_accumulator(h, {rows, ops::kDistillationStatistics});
    ops::distillation_statistics(logits, known, chunk_targets, parameter.shard_begin, valid,
                                 teacher.temperature, statistics);
    Tensor gathered =
        Tensor::empty_like(statistics, {parallel_.size() * rows, ops::kDistillationStatistics});
    parallel_.communicator().all_gather(statistics, gathered);
    Tensor cross_entropies = Tensor::empty_accumulator(h, {rows});
    Tensor divergences = Tensor::empty_like(cross_entropies);
    Tensor log_sums = Tensor::empty_accumulator(h, {rows, 3});
    ops::distillation_combine(
        gathered.reshaped({parallel_.size(), rows, ops::kDistillationStatistics}), chunk_targets,
        teacher.temperature, cross_entropies, divergences, log_sums);
    ops::add_sum(weight, cross_entropies, cross_entropy);
    ops::add_sum(weight, divergences, divergence);

    ops::distillation_backward(known, chunk_targets, log_sums, parameter.shard_begin, valid,
                               teacher.temperature, teacher.share, weight, logits);
    if (softcap_ > 0) ops::softcap_backward(capped, softcap_, logits);
    Tensor chunk_dh = all_dh.row_slice(begin, end);
    ops::matmul(logits, kNo, parameter.value, kNo, ops::Accumulate::kNo, chunk_dh);
    if (end == all_h.rows()) leaving = parallel_.start_leaving(std::move(all_dh));
    add_weight_grad(logits, chunk_h, {&parameter, 1});
  }
  dh = leaving.wait();
}

}  // namespace polyhead
