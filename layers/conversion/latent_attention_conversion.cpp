#include "layers/conversion/latent_attention_conversion.h"

#include "layers/conversion/head_tensors.h"
#include "layers/conversion/latent_embedding.h"
#include "layers/conversion/latent_tensors.h"

namespace polyhead {
namespace {

Tensor identity(std::int64_t size) {
  Tensor result = Tensor::zeros({size, size}, DType::kF64);
  for (std::int64_t i = 0; i < size; ++i) result.data<double>()[i * size + i] = 1.0;
  return result;
}

}  // namespace

LatentAttentionConversion::LatentAttentionConversion(const ModelConfig& config,
                                                     std::optional<LatentTarget> target,
                                                     const AttentionInputs* inputs)
    : config_(config), target_(target), inputs_(inputs) {
  require_latent_form(config);
  if (target) compressed_config(config, *target, LatentStage::kNorm);
}

ModelConfig LatentAttentionConversion::config_after(LatentStage stage) const {
  return target_ ? compressed_config(config_, *target_, stage) : embedded_config(config_);
}

Tensor LatentAttentionConversion::covariance(std::int64_t layer) const {
  if (!inputs_) return identity(config_.hidden_size + (config_.add_qkv_bias ? 1 : 0));
  return config_.add_qkv_bias ? inputs_->covariance_with_one(layer) : inputs_->covariance(layer);
}

void LatentAttentionConversion::prepare(std::int64_t layer, const AttentionTensors& weights) {
  if (!target_) return;
  const CompressedLayer compressed =
      compress_to_latent(grouped_layer(layer, weights), config_, *target_, covariance(layer));
  const DType dtype = weights.begin()->second.dtype() == DType::kF64 ? DType::kF64 : DType::kF32;
  kept_[layer] = {compressed.kept_rotation, compressed.kept_keys_and_values,
                  compressed.kept_queries};
  const auto store = [&](LatentStage stage, const LatentLayer& result) {
    stages_[layer][static_cast<std::size_t>(stage)] =
        named_tensors(result, config_after(stage), dtype);
  };
  store(LatentStage::kRotation, compressed.rotation);
  store(LatentStage::kRank, compressed.rank);
  store(LatentStage::kNorm, compressed.norm);
}

const AttentionTensors& LatentAttentionConversion::tensors_after(LatentStage stage,
                                                                 std::int64_t layer) const {
  return stages_.at(layer)[static_cast<std::size_t>(stage)];
}

bool LatentAttentionConversion::replaces(std::string_view name) const {
  return name.starts_with("q_proj.") || name.starts_with("k_proj.") || name.starts_with("v_proj.");
}

AttentionShapes LatentAttentionConversion::shapes(std::int64_t, const AttentionShapes&) const {
  const ModelConfig after = config_after(LatentStage::kNorm);
  const std::int64_t hidden = config_.hidden_size, heads = config_.num_attention_heads;
  const std::int64_t down = *after.kv_lora_rank + *after.qk_pos_emb_head_dim;
  const std::int64_t query = heads * after.query_key_dim();
  AttentionShapes shapes = {
      {"kv_a_proj_with_mqa.weight", {down, hidden}},
      {"kv_b_proj.weight",
       {heads * (*after.qk_head_dim + *after.v_head_dim), *after.kv_lora_rank}}};
  const auto add = [&](const char* name, const Shape& shape) { shapes.emplace(name, shape); };
  if (after.normalizes_latents()) add("kv_a_layernorm.weight", {*after.kv_lora_rank});
  if (after.add_qkv_bias) {
    add("kv_a_proj_with_mqa.bias", {down});
    add("q_proj.bias", {query});
  }
  if (!after.q_lora_rank) {
    add("q_proj.weight", {query, hidden});
    return shapes;
  }
  add("q_a_proj.weight", {*after.q_lora_rank, hidden});
  add("q_a_layernorm.weight", {*after.q_lora_rank});
  add("q_b_proj.weight", {query, *after.q_lora_rank});
  return shapes;
}

AttentionTensors LatentAttentionConversion::convert(std::int64_t layer,
                                                    const AttentionTensors& replaced,
                                                    TensorRole role) const {
  const DType dtype = replaced.begin()->second.dtype();
  if (role != TensorRole::kWeights) {
    AttentionTensors zeros;
    for (const auto& [name, shape] : shapes(layer, {})) zeros[name] = Tensor::zeros(shape, dtype);
    return zeros;
  }
  if (target_) {
    AttentionTensors result;
    for (const auto& [name, tensor] : tensors_after(LatentStage::kNorm, layer)) {
      result[name] = rounded_copy(exact_copy(tensor), dtype);
    }
    return result;
  }
  const LatentLayer embedded =
      embed_in_latent(grouped_layer(layer, replaced), grouped_heads(config_));
  return named_tensors(embedded, config_after(LatentStage::kNorm), dtype);
}

}  // namespace polyhead
