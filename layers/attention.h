// Attention: what a block knows of its attention sub-layer.
//
// Two classes implement it, chosen by configuration alone: GroupedQueryAttention (MHA, GQA, MQA)
// and LatentAttention (MLA). Both rest on one op (framework/ops/attention.h), so sliding windows,
// ALiBi and soft-caps work with either.
//
// Shapes: N = B * T tokens, D hidden, H query heads, G groups, K query/key and V value head
// dimension, P tensor-parallel size.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "framework/ops/attention.h"
#include "framework/ops/rope.h"
#include "framework/parameters/parameter.h"
#include "layers/model_config.h"
#include "layers/residual_stream.h"
#include "layers/tensor_parallel.h"

namespace polyhead {

// How the rows of a hidden state form sequences: row n is token n % length of sequence n / length.
struct SequenceBatch {
  std::int64_t batch = 0;
  std::int64_t length = 0;
  Tensor document_start;  // (N) i32: the first position a token may see, or empty
  ops::RopeTable rope;    // for at least `length` positions; empty without RoPE
};

class Attention {
 public:
  // What training keeps between forward and backward.
  struct Saved {
    virtual ~Saved() = default;
    // Forgets what backward can make again from the rest without running the attention again.
    virtual void drop_remakeable() = 0;
  };

  virtual ~Attention() = default;
  virtual std::unique_ptr<Saved> make_saved() const = 0;
  // Adds the output for x (N or N / P, D) to the stream; see RowParallelLinear::forward.
  virtual void forward(const Tensor& x, const SequenceBatch& sequences, Saved& saved,
                       ResidualStream& stream) const = 0;
  // Consumes `saved`; x is forward's input.
  virtual Tensor backward(const Tensor& dy, const Tensor& x, const SequenceBatch& sequences,
                          Saved& saved) = 0;
  virtual void collect_parameters(std::vector<Parameter*>& parameters) = 0;
};

// The attention of one layer; `prefix` begins its parameters' names. dtype and device are those of
// activations.
std::unique_ptr<Attention> make_attention(const std::string& prefix, const ModelConfig& config,
                                          std::int64_t layer, TensorParallel& parallel, DType dtype,
                                          Device device);

// The op's arguments for this rank's heads.
ops::AttentionSpec attention_spec(const ModelConfig& config, std::int64_t layer,
                                  const TensorParallel& parallel, DType dtype, Device device);

}  // namespace polyhead
