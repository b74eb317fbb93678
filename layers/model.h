// The decoder-only transformer: embedding, blocks, final norm, and the loss on top.
//
//   Model model(config, sequence_length, parallel, DType::kF32);
//   ParameterStore store(model.parameters(), DType::kF32, Device::kCpu);
//   store.initialize(seed);
//   Model::Saved saved;
//   const Tensor h = model.forward(tokens, batch, saved);
//   Tensor loss = Tensor::zeros({1}, DType::kF64), dh;
//   model.output_loss().loss_and_gradient(h, targets, 1.0 / valid, loss, dh);
//   model.backward(dh, saved);                                  // gradients are now in the store
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "layers/embedding.h"
#include "layers/model_config.h"
#include "layers/norm.h"
#include "layers/output_loss.h"
#include "layers/tensor_parallel.h"
#include "layers/transformer_block.h"

namespace polyhead {

class Model {
 public:
  // Activations of one micro-batch between forward and backward.
  struct Saved {
    Tensor tokens;  // (N) i32
    SequenceBatch sequences;
    std::vector<TransformerBlock::Saved> blocks;
    Tensor h;  // (N or N / P, D) the final norm's input
    Norm::Saved final_norm;
  };

  // config must have passed model_rule_violations and know its vocab_size. Sequences have at most
  // max_sequence_length tokens. Activations have the given dtype and device, which must be those of
  // the parameters' values. `parallel` must outlive the model.
  Model(const ModelConfig& config, std::int64_t max_sequence_length, TensorParallel& parallel,
        DType dtype, Recompute recompute = Recompute::kNone, Device device = Device::kCpu);
  Model(const Model&) = delete;
  Model& operator=(const Model&) = delete;

  // All parameters of this rank, in forward order.
  std::vector<Parameter*> parameters();
  const ModelConfig& config() const { return config_; }

  // tokens (N) i32 on the model's device = `batch` sequences of equal length -> normalised hidden
  // states (N or N / P, D). document_start (N) i32 limits what a token sees to its own document;
  // empty: no limit.
  Tensor forward(const Tensor& tokens, std::int64_t batch, Saved& saved,
                 const Tensor& document_start = {}) const;
  // Sees what the attention of a layer reads: x (N or N / P, D), behind the layer's norm.
  using AttentionInputObserver = std::function<void(std::int64_t layer, const Tensor& x)>;
  // The same for evaluation: keeps one block's activations at a time.
  Tensor infer(const Tensor& tokens, std::int64_t batch, const Tensor& document_start = {},
               const AttentionInputObserver& observe = nullptr) const;
  // One layer's attention alone: x as the observer sees it, of `batch` sequences -> the output of
  // its last projection, of x's shape.
  Tensor attend(std::int64_t layer, const Tensor& x, std::int64_t batch) const;
  // Told on the way through backward: nothing will be added any more to the gradient of `first` and
  // of all parameters behind it in parameters(), if the loss of dh was the last one.
  using GradientsFinal = std::function<void(const Parameter& first)>;
  // Adds to all gradients; consumes `saved`. dh (N or N / P, D) is the gradient of forward's
  // result. Calls `on_final` behind the final norm and every block; what the embedding shares with
  // the head is in front of all these.
  void backward(const Tensor& dh, Saved& saved, const GradientsFinal& on_final = nullptr);

  OutputLoss& output_loss() { return output_loss_; }
  const OutputLoss& output_loss() const { return output_loss_; }

 private:
  SequenceBatch sequences(std::int64_t tokens, std::int64_t batch,
                          const Tensor& document_start) const;

  ModelConfig config_;
  std::int64_t max_sequence_length_;
  Recompute recompute_;
  ops::RopeTable rope_;
  VocabParallelEmbedding embedding_;
  std::vector<std::unique_ptr<TransformerBlock>> blocks_;
  Norm final_norm_;
  OutputLoss output_loss_;
};

}  // namespace polyhead
