#include "layers/conversion/calibration.h"

#include "framework/checkpoint/element_conversion.h"
#include "framework/ops/matmul.h"

namespace polyhead {
namespace {

// (N, D) to (N, D + 1) f64 on the host, the last column 1.
Tensor with_one(const Tensor& x) {
  const Tensor exact = converted(x.to(Device::kCpu).clone(), DType::kF64);
  Tensor extended = Tensor::empty({x.rows(), x.cols() + 1}, DType::kF64);
  extended.column_slice(0, x.cols()).copy_from(exact.reshaped({x.rows(), x.cols()}));
  for (std::int64_t row = 0; row < x.rows(); ++row) {
    extended.data<double>()[row * extended.cols() + x.cols()] = 1;
  }
  return extended;
}

}  // namespace

AttentionInputs::AttentionInputs(std::int64_t num_layers, std::int64_t hidden_size)
    : hidden_size_(hidden_size) {
  for (std::int64_t layer = 0; layer < num_layers; ++layer) {
    layers_.push_back({Tensor::zeros({hidden_size + 1, hidden_size + 1}, DType::kF64), 0});
  }
}

void AttentionInputs::add(std::int64_t layer, const Tensor& x) {
  POLYHEAD_CHECK(x.cols() == hidden_size_, "{} beside {} columns", x.shape().to_string(),
                 hidden_size_);
  Layer& seen = layers_.at(static_cast<std::size_t>(layer));
  const Tensor extended = with_one(x);
  ops::matmul(extended, ops::Transpose::kYes, extended, ops::Transpose::kNo, ops::Accumulate::kYes,
              seen.sums);
  seen.tokens += x.rows();
}

std::int64_t AttentionInputs::tokens(std::int64_t layer) const {
  return layers_.at(static_cast<std::size_t>(layer)).tokens;
}

Tensor AttentionInputs::covariance_with_one(std::int64_t layer) const {
  const Layer& seen = layers_.at(static_cast<std::size_t>(layer));
  POLYHEAD_CHECK(seen.tokens > 0, "layer {} has seen no token", layer);
  Tensor mean = seen.sums.clone();
  for (std::int64_t i = 0; i < mean.numel(); ++i) {
    mean.data<double>()[i] /= static_cast<double>(seen.tokens);
  }
  return mean;
}

Tensor AttentionInputs::covariance(std::int64_t layer) const {
  return covariance_with_one(layer)
      .row_slice(0, hidden_size_)
      .column_slice(0, hidden_size_)
      .clone();
}

AttentionInputs attention_inputs(const Model& model, Device device,
                                 std::span<const CalibrationBatch> text) {
  AttentionInputs inputs(model.config().num_layers, model.config().hidden_size);
  for (const CalibrationBatch& batch : text) {
    model.infer(batch.tokens.to(device), batch.sequences, {},
                [&](std::int64_t layer, const Tensor& x) { inputs.add(layer, x); });
  }
  return inputs;
}

}  // namespace polyhead
