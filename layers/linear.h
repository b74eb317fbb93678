// Linear layers, y = x W^T + b with weights (out, in), alone and at the borders of tensor
// parallelism.
//
// A layer may have several named outputs of one input (q, k, v; gate, up): their weights lie one
// behind the other and are multiplied as one matrix. Backward needs x again; who keeps it decides
// about memory. FLOPs a token: 2 in out forward, twice that backward.
#pragma once

#include <vector>

#include "framework/parameters/parameter.h"
#include "layers/residual_stream.h"
#include "layers/tensor_parallel.h"

namespace polyhead {

// The product alone: no communication.
class Linear {
 public:
  // Weights (out_i, in) that share the input; biases (out_i), one each, or none at all.
  explicit Linear(std::vector<Parameter> weights, std::vector<Parameter> biases = {});

  // x (N, in) -> y (N, sum of out_i)
  Tensor forward(const Tensor& x) const;
  // Adds to the gradients of weights and biases and writes dx (N, in).
  void backward(const Tensor& dy, const Tensor& x, Tensor& dx);

  // The parts of both, for who adds the bias elsewhere or communicates in between. `addend` (N, sum
  // of out_i), or empty, is what the product is added to.
  Tensor multiply(const Tensor& x, const Tensor& addend = {}) const;
  void backward_input(const Tensor& dy, Tensor& dx) const;
  void backward_weights(const Tensor& dy, const Tensor& x);
  void add_biases(Tensor& y) const;
  void backward_biases(const Tensor& dy);

  bool has_biases() const { return !biases_.empty(); }
  std::int64_t in_features() const { return weights_.front().local_shape[1]; }
  std::int64_t out_features() const;
  void collect_parameters(std::vector<Parameter*>& parameters);

 private:
  std::vector<Parameter> weights_;
  std::vector<Parameter> biases_;
};

// Weights sharded by rows: enters the region with x and leaves each rank a share of the outputs.
// Forward: nothing (sequence parallelism: all-gather of x).
// Backward: one all-reduce (reduce-scatter) of dx for all outputs, beside the product that makes
// the weights' gradient. The x which that needs is gathered beside the product that makes dx.
class ColumnParallelLinear {
 public:
  ColumnParallelLinear(Linear linear, const TensorParallel& parallel)
      : linear_(std::move(linear)), parallel_(parallel) {}

  Tensor forward(const Tensor& x) const { return linear_.forward(parallel_.enter(x)); }
  Tensor backward(const Tensor& dy, const Tensor& x);
  void collect_parameters(std::vector<Parameter*>& parameters) {
    linear_.collect_parameters(parameters);
  }

 private:
  Linear linear_;
  const TensorParallel& parallel_;
};

// Weight sharded by columns, bias replicated and added once, behind the sum.
// Forward: one all-reduce (reduce-scatter) of y. Backward: nothing (all-gather of dy).
class RowParallelLinear {
 public:
  RowParallelLinear(Linear linear, const TensorParallel& parallel)
      : linear_(std::move(linear)), parallel_(parallel) {}

  // The output becomes the stream's branch. Where the product is all there is to it, no sum over
  // ranks and no bias, it is added to stream.x as it is made, which saves a pass over memory.
  void forward(const Tensor& x, ResidualStream& stream) const;
  Tensor backward(const Tensor& dy, const Tensor& x);
  void collect_parameters(std::vector<Parameter*>& parameters) {
    linear_.collect_parameters(parameters);
  }

 private:
  Linear linear_;
  const TensorParallel& parallel_;
};

// A column-parallel layer whose outputs of `sizes` features are divided evenly over the ranks.
ColumnParallelLinear make_column_parallel(const std::vector<std::string>& names,
                                          const std::vector<std::int64_t>& sizes,
                                          std::int64_t in_features, bool bias,
                                          Initialization initialization,
                                          const TensorParallel& parallel);
RowParallelLinear make_row_parallel(const std::string& name, std::int64_t out_features,
                                    std::int64_t in_features, bool bias,
                                    Initialization initialization, const TensorParallel& parallel);

}  // namespace polyhead
