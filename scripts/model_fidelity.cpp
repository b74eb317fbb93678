#include "scripts/model_fidelity.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "framework/checkpoint/element_conversion.h"
#include "framework/ops/parallel.h"

namespace polyhead {
namespace {

// A copy on the host in f64.
Tensor on_host(const Tensor& x) {
  return converted(x.to(Device::kCpu).clone(), DType::kF64);
}

double sum_of(const Tensor& x) {
  const Tensor host = on_host(x);
  return std::accumulate(host.data<double>(), host.data<double>() + host.numel(), 0.0);
}

// The logarithm of the sum of exponentials.
double log_sum(const double* logits, std::int64_t count) {
  const double largest = *std::max_element(logits, logits + count);
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) sum += std::exp(logits[i] - largest);
  return largest + std::log(sum);
}

// sum_i p_i (log p_i - log q_i).
double divergence(const double* parent, const double* child, std::int64_t count) {
  const double parent_log_sum = log_sum(parent, count), child_log_sum = log_sum(child, count);
  double sum = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double log_p = parent[i] - parent_log_sum;
    sum += std::exp(log_p) * (log_p - (child[i] - child_log_sum));
  }
  return sum;
}

double sum_of_divergences(const Model& parent, const Tensor& parent_h, const Model& child,
                          const Tensor& child_h) {
  const std::int64_t tokens = parent_h.rows(), vocabulary = parent.config().vocab_size.value();
  const std::int64_t chunk = output_chunk_tokens(tokens, vocabulary, DType::kF64, Device::kCpu);
  std::vector<double> rows(static_cast<std::size_t>(tokens));
  for (std::int64_t begin = 0; begin < tokens; begin += chunk) {
    const std::int64_t end = std::min(tokens, begin + chunk);
    const Tensor p = on_host(parent.output_loss().logits(parent_h.row_slice(begin, end)));
    const Tensor q = on_host(child.output_loss().logits(child_h.row_slice(begin, end)));
    ops::parallel_pieces(end - begin, p.numel(), [&](std::int64_t row) {
      rows[static_cast<std::size_t>(begin + row)] = divergence(
          p.data<double>() + row * vocabulary, q.data<double>() + row * vocabulary, vocabulary);
    });
  }
  return std::accumulate(rows.begin(), rows.end(), 0.0);
}

struct SquaredError {
  double error = 0, reference = 0;

  void add(const Tensor& got, const Tensor& want) {
    const Tensor a = on_host(got), b = on_host(want);
    for (std::int64_t i = 0; i < a.numel(); ++i) {
      const double difference = a.data<double>()[i] - b.data<double>()[i];
      error += difference * difference;
      reference += b.data<double>()[i] * b.data<double>()[i];
    }
  }
  double relative() const { return reference > 0 ? std::sqrt(error / reference) : 0; }
};

}  // namespace

ModelFidelity model_fidelity(const Model& parent, const Model& child, Device device,
                             std::span<const CalibrationBatch> text) {
  std::vector<SquaredError> attention(static_cast<std::size_t>(parent.config().num_layers));
  ModelFidelity fidelity;
  double parent_loss = 0, child_loss = 0, divergences = 0;
  for (const CalibrationBatch& batch : text) {
    const Tensor tokens = batch.tokens.to(device), targets = batch.targets.to(device);
    const Tensor parent_h =
        parent.infer(tokens, batch.sequences, {}, [&](std::int64_t layer, const Tensor& x) {
          attention[static_cast<std::size_t>(layer)].add(child.attend(layer, x, batch.sequences),
                                                         parent.attend(layer, x, batch.sequences));
        });
    const Tensor child_h = child.infer(tokens, batch.sequences);
    parent_loss += sum_of(parent.output_loss().losses(parent_h, targets));
    child_loss += sum_of(child.output_loss().losses(child_h, targets));
    divergences += sum_of_divergences(parent, parent_h, child, child_h);
    fidelity.tokens += batch.tokens.numel();
  }
  const auto tokens = static_cast<double>(fidelity.tokens);
  for (const SquaredError& error : attention) {
    fidelity.attention_errors.push_back(error.relative());
  }
  fidelity.divergence = divergences / tokens;
  fidelity.parent_perplexity = std::exp(parent_loss / tokens);
  fidelity.child_perplexity = std::exp(child_loss / tokens);
  return fidelity;
}

}  // namespace polyhead
