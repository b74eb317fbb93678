// Distillation from a teacher's logits beside the cross-entropy (Hinton et al., "Distilling the
// Knowledge in a Neural Network", 2015), over a vocabulary that may be split over ranks.
//
// With the student's logits z, the teacher's t, a temperature T, q = softmax(z / T) and
// p = softmax(t / T), a token has two losses,
//   cross-entropy  -log softmax(z)_target
//   divergence     T^2 KL(p || q) = T^2 sum_v p_v (log p_v - log q_v)
// of which share s in the sum (1 - s) cross-entropy + s divergence has the gradient
//   dz_v = (1 - s) (softmax(z)_v - [v = target]) + s T (q_v - p_v)
// As in ops/cross_entropy.h each rank reduces its logits to a few numbers per token, the numbers of
// all ranks are gathered once, and every rank can then write its part of the gradient. Maxima are
// taken off before anything is summed, so equal logits have a divergence and a gradient of exactly
// 0. Targets below 0 are ignored: neither loss, zero gradient. Statistics, losses and log_sums have
// the accumulation dtype of the logits (f32 for bf16).
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops {

// Numbers per token and rank: the maximum m of z, the sums of exp(z - m) and of exp((z - m) / T),
// the target's z if this rank holds it, else 0; the maximum n of t, the sum of exp((t - n) / T),
// and the sum of exp((t - n) / T) ((t - n) - (z - m)) / T.
inline constexpr std::int64_t kDistillationStatistics = 7;

// statistics (N, kDistillationStatistics). Only the first valid_columns of both logits count;
// padding never enters. Reads every row twice.
void distillation_statistics(const Tensor& logits,          // (N, columns >= valid_columns)
                             const Tensor& teacher_logits,  // (N, columns >= valid_columns)
                             const Tensor& targets,         // (N) i32, global ids
                             std::int64_t first_id, std::int64_t valid_columns, double temperature,
                             Tensor& statistics);

// From the statistics of all P ranks, (P, N, kDistillationStatistics): the two losses, (N) each,
// and log_sums (N, 3): log sum exp(z), T log sum exp(z / T), T log sum exp(t / T).
void distillation_combine(const Tensor& gathered, const Tensor& targets, double temperature,
                          Tensor& cross_entropies, Tensor& divergences, Tensor& log_sums);

// Overwrites the student's logits by the gradient of the sum above times weight; padding columns
// become 0.
void distillation_backward(const Tensor& teacher_logits, const Tensor& targets,
                           const Tensor& log_sums, std::int64_t first_id,
                           std::int64_t valid_columns, double temperature, double share,
                           double weight, Tensor& logits);

}  // namespace polyhead::ops
