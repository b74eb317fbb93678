// One pre-norm decoder block:
//
//   h = x + post_norm(attention(norm(x)));   y = h + post_norm(mlp(norm(h)))
//
// with the post norms where the configuration asks for them (Gemma 2). The last sum is left to the
// next norm (layers/residual_stream.h).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "layers/attention.h"
#include "layers/mlp.h"
#include "layers/norm.h"
#include "layers/recompute.h"

namespace polyhead {

class TransformerBlock {
 public:
  // Rows are those between the parallel regions, N or N / P.
  struct Saved {
    Tensor x;  // (N, D) the block's input
    Norm::Saved input_norm;
    Tensor attention_input;                       // (N, D) empty: remade from x
    std::unique_ptr<Attention::Saved> attention;  // null: the forward pass runs again
    Tensor attention_output;                      // (N, D) with post norms only
    Norm::Saved attention_post_norm;
    Tensor h;  // (N, D) behind the attention's residual
    Norm::Saved mlp_norm;
    Tensor mlp_input;  // (N, D) empty: remade from h
    Mlp::Saved mlp;
    Tensor mlp_output;  // (N, D) with post norms only
    Norm::Saved mlp_post_norm;

    void drop(Recompute recompute);
  };

  TransformerBlock(const ModelConfig& config, std::int64_t layer, TensorParallel& parallel,
                   DType dtype, Device device);

  ResidualStream forward(ResidualStream stream, const SequenceBatch& sequences, Saved& saved) const;
  // dy is the gradient of the stream behind the block, dx of that before it. Consumes `saved`,
  // remaking what was dropped.
  Tensor backward(const Tensor& dy, const SequenceBatch& sequences, Saved& saved);
  void collect_parameters(std::vector<Parameter*>& parameters);
  const Attention& attention() const { return *attention_; }

 private:
  void remake(const SequenceBatch& sequences, Saved& saved) const;

  Norm input_norm_;
  std::unique_ptr<Attention> attention_;
  std::optional<Norm> attention_post_norm_;
  Norm mlp_norm_;
  Mlp mlp_;
  std::optional<Norm> mlp_post_norm_;
};

}  // namespace polyhead
