// The feed-forward sub-layer: down(activation(up(x))) or down(activation(gate(x)) * up(x)).
// Forward: one all-reduce (reduce-scatter); backward: one.
#pragma once

#include <string>
#include <vector>

#include "layers/linear.h"
#include "layers/model_config.h"

namespace polyhead {

class Mlp {
 public:
  struct Saved {
    Tensor gate_up;    // (N, 2F / P) = [gate | up], or (N, F / P) without a gate
    Tensor activated;  // (N, F / P); empty: remade from gate_up
  };

  Mlp(const std::string& prefix, const ModelConfig& config, const TensorParallel& parallel);

  // Adds the output for x (N, D) to the stream; see RowParallelLinear::forward.
  void forward(const Tensor& x, Saved& saved, ResidualStream& stream) const;
  Tensor backward(const Tensor& dy, const Tensor& x, Saved& saved);
  void collect_parameters(std::vector<Parameter*>& parameters);

 private:
  Tensor activate(const Tensor& gate_up) const;

  ops::Activation activation_;
  ColumnParallelLinear up_;  // gate and up
  RowParallelLinear down_;
};

}  // namespace polyhead
