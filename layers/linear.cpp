#include "layers/linear.h"

#include <utility>

#include "framework/ops/elementwise.h"
#include "framework/ops/matmul.h"

namespace polyhead {
namespace {

constexpr Initialization kZeroBias{Initialization::Kind::kZeros, 0};

void join(std::vector<Parameter>& parts) {
  for (std::size_t i = 1; i < parts.size(); ++i) parts[i].joins_previous = true;
}

}  // namespace

Linear::Linear(std::vector<Parameter> weights, std::vector<Parameter> biases)
    : weights_(std::move(weights)), biases_(std::move(biases)) {
  POLYHEAD_CHECK(!weights_.empty() && (biases_.empty() || biases_.size() == weights_.size()),
                 "{} weights with {} biases", weights_.size(), biases_.size());
  join(weights_);
  join(biases_);
}

std::int64_t Linear::out_features() const {
  std::int64_t features = 0;
  for (const Parameter& weight : weights_) features += weight.local_shape[0];
  return features;
}

Tensor Linear::multiply(const Tensor& x, const Tensor& addend) const {
  Tensor y = Tensor::empty_like(x, {x.rows(), out_features()});
  if (addend) {
    ops::matmul_weight_onto(addend, x, joined_values(weights_), y);
  } else {
    ops::matmul_weight(x, joined_values(weights_), y);
  }
  return y;
}

void Linear::add_biases(Tensor& y) const {
  if (!biases_.empty()) ops::add_bias(joined_values(biases_), y);
}

Tensor Linear::forward(const Tensor& x) const {
  Tensor y = multiply(x);
  add_biases(y);
  return y;
}

void Linear::backward_input(const Tensor& dy, Tensor& dx) const {
  using enum ops::Transpose;
  ops::matmul(dy, kNo, joined_values(weights_), kNo, ops::Accumulate::kNo, dx);
}

void Linear::backward_weights(const Tensor& dy, const Tensor& x) {
  add_weight_grad(dy, x, weights_);
}

void Linear::backward_biases(const Tensor& dy) {
  if (biases_.empty()) return;
  Tensor dbias = joined_grads(biases_);
  ops::bias_backward(dy, dbias);
}

void Linear::backward(const Tensor& dy, const Tensor& x, Tensor& dx) {
  backward_biases(dy);
  // dx last: who reads it next finds its end in the device's cache.
  backward_weights(dy, x);
  backward_input(dy, dx);
}

void Linear::collect_parameters(std::vector<Parameter*>& parameters) {
  for (Parameter& weight : weights_) parameters.push_back(&weight);
  for (Parameter& bias : biases_) parameters.push_back(&bias);
}

Tensor ColumnParallelLinear::backward(const Tensor& dy, const Tensor& x) {
  if (parallel_.size() == 1) {
    Tensor dx = Tensor::empty_like(dy, {dy.rows(), linear_.in_features()});
    linear_.backward(dy, x, dx);
    return dx;
  }
  // dx first: it is summed over the ranks under the product of the weights' gradient.
  Crossing entering = parallel_.start_entering(x);
  Tensor dx = Tensor::empty_like(dy, {dy.rows(), linear_.in_features()});
  linear_.backward_input(dy, dx);
  Crossing leaving = parallel_.start_leaving(std::move(dx));
  linear_.backward_biases(dy);
  linear_.backward_weights(dy, entering.wait());
  return leaving.wait();
}

void RowParallelLinear::forward(const Tensor& x, ResidualStream& stream) const {
  POLYHEAD_CHECK(!stream.branch, "the stream has a branch that no norm has added");
  if (stream.x && parallel_.size() == 1 && !linear_.has_biases()) {
    stream.x = linear_.multiply(x, stream.x);
    return;
  }
  stream.branch = parallel_.leave(linear_.multiply(x));
  linear_.add_biases(stream.branch);
}

Tensor RowParallelLinear::backward(const Tensor& dy, const Tensor& x) {
  linear_.backward_biases(dy);
  const Tensor all_dy = parallel_.enter(dy);
  linear_.backward_weights(all_dy, x);
  // Last, as in Linear::backward.
  Tensor dx = Tensor::empty_like(x, {x.rows(), linear_.in_features()});
  linear_.backward_input(all_dy, dx);
  return dx;
}

ColumnParallelLinear make_column_parallel(const std::vector<std::string>& names,
                                          const std::vector<std::int64_t>& sizes,
                                          std::int64_t in_features, bool bias,
                                          Initialization initialization,
                                          const TensorParallel& parallel) {
  std::vector<Parameter> weights, biases;
  for (std::size_t i = 0; i < names.size(); ++i) {
    const auto [begin, end] = even_share(sizes[i], parallel.rank(), parallel.size());
    weights.push_back(sharded_parameter(names[i] + ".weight", {sizes[i], in_features}, 0, begin,
                                        end, initialization));
    if (!bias) continue;
    biases.push_back(sharded_parameter(names[i] + ".bias", {sizes[i]}, 0, begin, end, kZeroBias));
  }
  return {Linear(std::move(weights), std::move(biases)), parallel};
}

RowParallelLinear make_row_parallel(const std::string& name, std::int64_t out_features,
                                    std::int64_t in_features, bool bias,
                                    Initialization initialization, const TensorParallel& parallel) {
  const auto [begin, end] = even_share(in_features, parallel.rank(), parallel.size());
  std::vector<Parameter> biases;
  if (bias) {
    biases.push_back(
        replicated_parameter(name + ".bias", {out_features}, parallel.rank(), kZeroBias));
    biases.back().partial_over = parallel.partial_between_regions();
  }
  return {Linear({sharded_parameter(name + ".weight", {out_features, in_features}, 1, begin, end,
                                    initialization)},
                 std::move(biases)),
          parallel};
}

}  // namespace polyhead
