// A change of a model's attention as algebra on named tensors, one layer at a time, independent of
// how tensors are stored or sharded.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "framework/tensor.h"

namespace polyhead {

// Of one layer's attention, by what follows "model.layers.N.self_attn.": "k_proj.weight".
using AttentionTensors = std::map<std::string, Tensor, std::less<>>;
using AttentionShapes = std::map<std::string, Shape, std::less<>>;

// "model.layers.3.self_attn."
std::string attention_prefix(std::int64_t layer);

struct AttentionTensorName {
  std::int64_t layer = 0;
  std::string name;  // behind the prefix
};
// Empty for a parameter of something else than an attention.
std::optional<AttentionTensorName> attention_tensor_name(std::string_view parameter);

// The tensor of that name. Throws Error, naming it in full, where it is missing.
const Tensor& tensor_of(const AttentionTensors& tensors, std::int64_t layer, std::string_view name);

// What the numbers beside a parameter's name are.
enum class TensorRole { kWeights, kMomentum, kSecondMoments };

class AttentionConversion {
 public:
  virtual ~AttentionConversion() = default;

  // Sees the weights of a layer's whole attention, its norms included, once before any call of
  // convert() for that layer. f64, f32 or bf16.
  virtual void prepare(std::int64_t layer, const AttentionTensors& weights) = 0;

  // Whether convert() takes this tensor. All others are copied bit by bit.
  virtual bool replaces(std::string_view name) const = 0;
  // The names and shapes of convert()'s result, from those of what it takes. A file need not hold
  // all tensors of a layer.
  virtual AttentionShapes shapes(std::int64_t layer, const AttentionShapes& replaced) const = 0;
  // What takes the place of the replaced tensors: of the weights, or of the optimizer's moments.
  // Keeps the dtype.
  virtual AttentionTensors convert(std::int64_t layer, const AttentionTensors& replaced,
                                   TensorRole role) const = 0;
};

}  // namespace polyhead
