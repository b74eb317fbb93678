// Cross-entropy over a vocabulary that may be split over ranks.
//
// Each rank reduces its logits to three numbers per token, the numbers of all ranks are gathered
// once, and every rank then knows the loss and can write its part of the gradient:
//   loss = log sum_v exp(l_v) - l_target,   dl_v = (softmax_v - [v = target]) * weight
// Targets below 0 are ignored: no loss, zero gradient. Statistics, losses and lse have the
// accumulation dtype of the logits (f32 for bf16).
#pragma once

#include "framework/tensor.h"

namespace polyhead::ops {

// statistics (N, 3): the row's maximum, the sum of exp(l - maximum), and the target's logit if this
// rank holds it, else 0. Only the first valid_columns of the logits count; padding never enters.
void cross_entropy_statistics(const Tensor& logits,   // (N, columns >= valid_columns)
                              const Tensor& targets,  // (N) i32, global ids
                              std::int64_t first_id, std::int64_t valid_columns,
                              Tensor& statistics);

// From the statistics of all P ranks, (P, N, 3): losses (N), 0 where ignored, and lse (N).
void cross_entropy_combine(const Tensor& gathered, const Tensor& targets, Tensor& losses,
                           Tensor& lse);

// From the same: which targets have the largest logit of their row, or share it. (N) i32 on the
// CPU, 1 or 0, and 0 where ignored. Copies the statistics to the host.
Tensor cross_entropy_greedy(const Tensor& gathered, const Tensor& targets);

// Overwrites the logits by their gradient times weight, which is not negative; padding columns
// become 0.
void cross_entropy_backward(const Tensor& targets, const Tensor& lse, std::int64_t first_id,
                            std::int64_t valid_columns, double weight, Tensor& logits);

// The three in turn, for one rank that holds the whole vocabulary: losses (N) and lse (N) are
// written, and the logits overwritten by their gradient. On CUDA, rows that fit shared memory (bf16
// on an A100: 83,000 columns, on an H100: 928,000) cross memory once instead of twice.
void cross_entropy_loss_and_gradient(const Tensor& targets, std::int64_t valid_columns,
                                     double weight, Tensor& logits, Tensor& losses, Tensor& lse);

}  // namespace polyhead::ops
