#include "layers/mlp.h"

namespace polyhead {
namespace {

ColumnParallelLinear make_up(const std::string& prefix, const ModelConfig& config,
                             const TensorParallel& parallel) {
  std::vector<std::string> names = {prefix + "up_proj"};
  if (ops::is_gated(config.activation)) names.insert(names.begin(), prefix + "gate_proj");
  return make_column_parallel(
      names, std::vector<std::int64_t>(names.size(), config.ffn_hidden_size), config.hidden_size,
      config.add_bias_linear, {Initialization::Kind::kNormal, config.init_method_std}, parallel);
}

}  // namespace

Mlp::Mlp(const std::string& prefix, const ModelConfig& config, const TensorParallel& parallel)
    : activation_(config.activation),
      up_(make_up(prefix, config, parallel)),
      down_(make_row_parallel(prefix + "down_proj", config.hidden_size, config.ffn_hidden_size,
                              config.add_bias_linear, output_initialization(config), parallel)) {}

Tensor Mlp::activate(const Tensor& gate_up) const {
  const std::int64_t features = ops::is_gated(activation_) ? gate_up.cols() / 2 : gate_up.cols();
  Tensor activated = Tensor::empty_like(gate_up, {gate_up.rows(), features});
  ops::activation_forward(gate_up, activation_, activated);
  return activated;
}

void Mlp::forward(const Tensor& x, Saved& saved, ResidualStream& stream) const {
  saved.gate_up = up_.forward(x);
  saved.activated = activate(saved.gate_up);
  down_.forward(saved.activated, stream);
}

Tensor Mlp::backward(const Tensor& dy, const Tensor& x, Saved& saved) {
  if (!saved.activated) saved.activated = activate(saved.gate_up);
  const Tensor dactivated = down_.backward(dy, saved.activated);
  saved.activated = {};
  Tensor& dgate_up = saved.gate_up;
  ops::activation_backward(dactivated, saved.gate_up, activation_, dgate_up);
  return up_.backward(dgate_up, x);
}

void Mlp::collect_parameters(std::vector<Parameter*>& parameters) {
  up_.collect_parameters(parameters);
  down_.collect_parameters(parameters);
}

}  // namespace polyhead
