#include "layers/norm.h"

#include <utility>

namespace polyhead {
namespace {

Parameter norm_parameter(const std::string& name, std::int64_t size, int tensor_rank,
                         const Communicator* partial_over, Initialization::Kind kind) {
  Parameter parameter = replicated_parameter(name, {size}, tensor_rank, {kind, 0});
  parameter.partial_over = partial_over;
  return parameter;
}

Initialization::Kind neutral(ops::NormWeight form) {
  return form == ops::NormWeight::kOnePlus ? Initialization::Kind::kZeros
                                           : Initialization::Kind::kOnes;
}

}  // namespace

Norm::Norm(Parameter weight, std::optional<Parameter> bias, ops::NormWeight form, double epsilon)
    : weight_(std::move(weight)), bias_(std::move(bias)), form_(form), epsilon_(epsilon) {}

Norm::Norm(const std::string& name, std::int64_t size, const ModelConfig& config, int tensor_rank,
           const Communicator* partial_over)
    : Norm(norm_parameter(name + ".weight", size, tensor_rank, partial_over,
                          neutral(config.norm_weight)),
           std::nullopt, config.norm_weight, config.norm_epsilon) {
  if (config.normalization == Normalization::kLayerNorm) {
    bias_ = norm_parameter(name + ".bias", size, tensor_rank, partial_over,
                           Initialization::Kind::kZeros);
  }
}

Norm Norm::rms(const std::string& name, std::int64_t size, ops::NormWeight form, double epsilon,
               int tensor_rank, const Communicator* partial_over) {
  return {norm_parameter(name + ".weight", size, tensor_rank, partial_over, neutral(form)),
          std::nullopt, form, epsilon};
}

Tensor Norm::forward(const Tensor& x, Saved& saved) const {
  Tensor y = Tensor::empty_like(x, {x.rows(), x.cols()});
  forward(x, y, saved);
  return y;
}

Tensor Norm::forward(ResidualStream& stream, Saved& saved) const {
  Tensor y = Tensor::empty_like(stream.x, {stream.x.rows(), stream.x.cols()});
  forward(stream.x, {stream.branch, stream.branch}, y, saved);
  if (stream.branch) stream = {stream.branch, {}};
  return y;
}

void Norm::forward(const Tensor& x, Tensor& y, Saved& saved) const {
  forward(x, {}, y, saved);
}

void Norm::forward(const Tensor& x, ops::Residual residual, Tensor& y, Saved& saved) const {
  if (bias_) {
    saved.statistics = Tensor::empty_accumulator(x, {x.rows(), 2});
    ops::layer_norm_forward(x, weight_.value, bias_->value, epsilon_, std::move(residual), y,
                            saved.statistics);
  } else {
    saved.statistics = Tensor::empty_accumulator(x, {x.rows()});
    ops::rms_norm_forward(x, weight_.value, form_, epsilon_, std::move(residual), y,
                          saved.statistics);
  }
}

Tensor Norm::remake(const Tensor& x, const Saved& saved) const {
  Tensor y = Tensor::empty_like(x, {x.rows(), x.cols()});
  remake(x, saved, y);
  return y;
}

void Norm::remake(const Tensor& x, const Saved& saved, Tensor& y) const {
  if (bias_) {
    ops::layer_norm_apply(x, weight_.value, bias_->value, saved.statistics, y);
  } else {
    ops::rms_norm_apply(x, weight_.value, form_, saved.statistics, y);
  }
}

void Norm::backward(const Tensor& dy, const Tensor& x, const Saved& saved, const Tensor& dresidual,
                    Tensor& dx) {
  if (bias_) {
    ops::layer_norm_backward(dy, x, weight_.value, saved.statistics, dresidual, dx, weight_.grad,
                             bias_->grad);
  } else {
    ops::rms_norm_backward(dy, x, weight_.value, form_, saved.statistics, dresidual, dx,
                           weight_.grad);
  }
}

void Norm::collect_parameters(std::vector<Parameter*>& parameters) {
  parameters.push_back(&weight_);
  if (bias_) parameters.push_back(&*bias_);
}

}  // namespace polyhead
