#include "layers/output_loss.h"

#include <algorithm>
#include <utility>

#include "framework/ops/cross_entropy.h"
#include "framework/ops/elementwise.h"
#include "framework/ops/matmul.h"
#include "layers/embedding.h"

namespace polyhead {

OutputLoss::OutputLoss(const ModelConfig& config, Parameter* tied, const TensorParallel& parallel)
    : parallel_(parallel), softcap_(config.final_softcap.value_or(0.0)), tied_(tied) {
  if (!tied_) own_ = vocabulary_parameter("lm_head.weight", config, parallel);
}

std::int64_t output_chunk_tokens(std::int64_t tokens, std::int64_t vocabulary, DType dtype,
                                 Device device) {
  constexpr std::int64_t kMultiple = 128;  // rows of a tile of the matrix product
  const std::int64_t chunk_bytes = std::int64_t{device == Device::kCuda ? 1792 : 64} << 20;
  const std::int64_t row_bytes = vocabulary * static_cast<std::int64_t>(size_of(dtype));
  const std::int64_t chunks = (tokens * row_bytes + chunk_bytes - 1) / chunk_bytes;
  const std::int64_t rows = (tokens + chunks - 1) / std::max<std::int64_t>(chunks, 1);
  return (rows + kMultiple - 1) / kMultiple * kMultiple;
}

std::int64_t OutputLoss::chunk_tokens(std::int64_t tokens) const {
  const Tensor& weight = head().value;
  return output_chunk_tokens(tokens, weight.rows(), weight.dtype(), weight.device());
}

Tensor OutputLoss::capped_logits(const Tensor& h) const {
  const Tensor& weight = head().value;
  Tensor logits = Tensor::empty_like(h, {h.rows(), weight.rows()});
  ops::matmul_weight(h, weight, logits);
  if (softcap_ > 0) ops::softcap_forward(softcap_, logits);
  return logits;
}

OutputLoss::Chunk OutputLoss::forward_chunk(const Tensor& h, const Tensor& targets) const {
  const Parameter& weight = head();
  const std::int64_t tokens = h.rows(), valid = weight.shard_end - weight.shard_begin;
  Chunk chunk{capped_logits(h), Tensor::empty_accumulator(h, {tokens}),
              Tensor::empty_accumulator(h, {tokens}),
              Tensor::empty_accumulator(h, {parallel_.size(), tokens, 3})};
  Tensor statistics = Tensor::empty_accumulator(h, {tokens, 3});
  ops::cross_entropy_statistics(chunk.logits, targets, weight.shard_begin, valid, statistics);
  Tensor gathered = chunk.statistics.reshaped({parallel_.size() * tokens, 3});
  parallel_.communicator().all_gather(statistics, gathered);
  ops::cross_entropy_combine(chunk.statistics, targets, chunk.losses, chunk.lse);
  return chunk;
}

OutputLoss::Chunk OutputLoss::gradient_chunk(const Tensor& h, const Tensor& targets,
                                             double weight) const {
  const std::int64_t first_id = head().shard_begin, valid = head().shard_end - first_id;
  if (parallel_.size() == 1 && softcap_ == 0) {
    Chunk chunk{capped_logits(h), Tensor::empty_accumulator(h, {h.rows()}),
                Tensor::empty_accumulator(h, {h.rows()}), Tensor()};
    ops::cross_entropy_loss_and_gradient(targets, valid, weight, chunk.logits, chunk.losses,
                                         chunk.lse);
    return chunk;
  }
  Chunk chunk = forward_chunk(h, targets);
  const Tensor capped = softcap_ > 0 ? chunk.logits.clone() : Tensor();
  ops::cross_entropy_backward(targets, chunk.lse, first_id, valid, weight, chunk.logits);
  if (softcap_ > 0) ops::softcap_backward(capped, softcap_, chunk.logits);
  return chunk;
}

void OutputLoss::loss_and_gradient(const Tensor& h, const Tensor& targets, double weight,
                                   Tensor& loss, Tensor& dh) {
  using enum ops::Transpose;
  const Tensor all_h = parallel_.enter(h);
  Tensor all_dh = Tensor::empty_like(all_h);
  Crossing leaving;
  Parameter& parameter = head();
  const std::int64_t tokens = chunk_tokens(all_h.rows());
  for (std::int64_t begin = 0; begin < all_h.rows(); begin += tokens) {
    const std::int64_t end = std::min(all_h.rows(), begin + tokens);
    const Tensor chunk_h = all_h.row_slice(begin, end);
    const Tensor chunk_targets = targets.row_slice(begin, end);
    Chunk chunk = gradient_chunk(chunk_h, chunk_targets, weight);
    ops::add_sum(weight, chunk.losses, loss);
    const Tensor& dlogits = chunk.logits;
    Tensor chunk_dh = all_dh.row_slice(begin, end);
    ops::matmul(dlogits, kNo, parameter.value, kNo, ops::Accumulate::kNo, chunk_dh);
    if (end == all_h.rows()) leaving = parallel_.start_leaving(std::move(all_dh));
    add_weight_grad(dlogits, chunk_h, {&parameter, 1});
  }
  dh = leaving.wait();
}

Tensor OutputLoss::losses(const Tensor& h, const Tensor& targets) const {
  const Tensor all_h = parallel_.enter(h);
  Tensor losses = Tensor::empty_accumulator(h, {all_h.rows()});
  const std::int64_t tokens = chunk_tokens(all_h.rows());
  for (std::int64_t begin = 0; begin < all_h.rows(); begin += tokens) {
    const std::int64_t end = std::min(all_h.rows(), begin + tokens);
    const Chunk chunk = forward_chunk(all_h.row_slice(begin, end), targets.row_slice(begin, end));
    losses.row_slice(begin, end).copy_from(chunk.losses);
  }
  return losses;
}

OutputLoss::Predictions OutputLoss::predictions(const Tensor& h, const Tensor& targets) const {
  const Tensor all_h = parallel_.enter(h);
  Predictions predictions{Tensor::empty_accumulator(h, {all_h.rows()}),
                          Tensor::empty({all_h.rows()}, DType::kI32)};
  const std::int64_t tokens = chunk_tokens(all_h.rows());
  for (std::int64_t begin = 0; begin < all_h.rows(); begin += tokens) {
    const std::int64_t end = std::min(all_h.rows(), begin + tokens);
    const Tensor chunk_targets = targets.row_slice(begin, end);
    const Chunk chunk = forward_chunk(all_h.row_slice(begin, end), chunk_targets);
    predictions.losses.row_slice(begin, end).copy_from(chunk.losses);
    predictions.greedy.row_slice(begin, end)
        .copy_from(ops::cross_entropy_greedy(chunk.statistics, chunk_targets));
  }
  return predictions;
}

Tensor OutputLoss::logits(const Tensor& h) const {
  const Tensor all_h = parallel_.enter(h);
  const Parameter& weight = head();
  const std::int64_t tokens = all_h.rows(), share = weight.value.rows();
  // Products in bf16 have sums of f32: there is no rounding between.
  Tensor part = Tensor::empty_accumulator(h, {tokens, share});
  ops::matmul_weight(all_h, weight.value, part);
  if (softcap_ > 0) ops::softcap_forward(softcap_, part);
  Tensor parts = Tensor::empty_like(part, {parallel_.size() * tokens, share});
  parallel_.communicator().all_gather(part, parts);
  Tensor padded = Tensor::empty_like(part, {tokens, parallel_.size() * share});
  for (int rank = 0; rank < parallel_.size(); ++rank) {
    padded.column_slice(rank * share, (rank + 1) * share)
        .copy_from(parts.row_slice(rank * tokens, (rank + 1) * tokens));
  }
  return padded.column_slice(0, weight.global_shape[0]).clone();  // padding is behind all ranks'
}

void OutputLoss::collect_parameters(std::vector<Parameter*>& parameters) {
  if (own_) parameters.push_back(&*own_);
}

}  // namespace polyhead
