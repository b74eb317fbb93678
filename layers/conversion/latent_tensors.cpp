#include "layers/conversion/latent_tensors.h"

#include <algorithm>

#include "layers/conversion/head_tensors.h"

namespace polyhead {
namespace {

void put(const std::string& name, const Tensor& matrix, bool bias, AttentionTensors& tensors) {
  const std::int64_t cols = matrix.cols() - (bias ? 1 : 0);
  tensors[name + ".weight"] = matrix.column_slice(0, cols).clone();
  if (!bias) return;
  tensors[name + ".bias"] = matrix.column_slice(cols, cols + 1).clone().reshaped({matrix.rows()});
}

void put_norm(const std::string& name, std::int64_t size, AttentionTensors& tensors) {
  Tensor ones = Tensor::empty({size}, DType::kF64);
  std::fill_n(ones.data<double>(), size, 1.0);
  tensors[name + ".weight"] = ones;
}

}  // namespace

GroupedLayer grouped_layer(std::int64_t layer, const AttentionTensors& tensors) {
  const auto projection = [&](const std::string& name) {
    const auto bias = tensors.find(name + ".bias");
    return with_bias(exact_copy(tensor_of(tensors, layer, name + ".weight")),
                     bias == tensors.end() ? Tensor() : exact_copy(bias->second));
  };
  return {projection("q_proj"), projection("k_proj"), projection("v_proj")};
}

AttentionTensors named_tensors(const LatentLayer& layer, const ModelConfig& config, DType dtype) {
  AttentionTensors tensors;
  if (layer.q_down) {
    put("q_a_proj", layer.q_down, false, tensors);
    put("q_b_proj", layer.q_up, false, tensors);
    if (config.normalizes_latents()) put_norm("q_a_layernorm", layer.q_down.rows(), tensors);
  } else {
    put("q_proj", layer.q, config.add_qkv_bias, tensors);
  }
  put("kv_a_proj_with_mqa", layer.kv_down, config.add_qkv_bias, tensors);
  put("kv_b_proj", layer.kv_up, false, tensors);
  if (config.normalizes_latents()) put_norm("kv_a_layernorm", layer.kv_up.cols(), tensors);
  for (auto& [_, tensor] : tensors) tensor = rounded_copy(tensor, dtype);
  return tensors;
}

}  // namespace polyhead
