#include "layers/model_config.h"

#include <cmath>

#include "framework/error.h"

namespace polyhead {

namespace {

std::int64_t layer_window(const ModelConfig& config, std::int64_t layer) {
  if (!config.window_size) return 0;
  if (!config.window_pattern) return *config.window_size;
  const WindowPattern& pattern = *config.window_pattern;
  if (!pattern.layers.empty()) {
    return pattern.layers[static_cast<std::size_t>(layer)] != 0 ? *config.window_size : 0;
  }
  return (layer + 1) % pattern.global_every != 0 ? *config.window_size : 0;
}

double default_softmax_scale(const ModelConfig& config) {
  const double scale = 1.0 / std::sqrt(static_cast<double>(config.query_key_dim()));
  if (!config.is_latent() || config.rotation() != RopeType::kYarn) return scale;
  // DeepSeek-V2 scales its logits here, since the part of a head without rotation never sees the
  // amplitude of cos and sin.
  const double amplitude =
      yarn_mscale(config.rotary_scaling_factor.value(), config.mscale_all_dim.value_or(0.0));
  return scale * amplitude * amplitude;
}

}  // namespace

LayerAttentionConfig layer_attention_config(const ModelConfig& config, std::int64_t layer) {
  POLYHEAD_CHECK(0 <= layer && layer < config.num_layers, "layer {} of {}", layer,
                 config.num_layers);
  return {.layer = layer,
          .window = layer_window(config, layer),
          .softmax_scale = config.softmax_scale.value_or(default_softmax_scale(config))};
}

Initialization output_initialization(const ModelConfig& config) {
  return {Initialization::Kind::kNormal,
          config.init_method_std / std::sqrt(2.0 * static_cast<double>(config.num_layers))};
}

std::string attention_variant(const ModelConfig& config) {
  std::string name = config.is_latent()                              ? "MLA"
                     : config.groups() == config.num_attention_heads ? "MHA"
                     : config.groups() == 1                          ? "MQA"
                                                                     : "GQA";
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (layer_window(config, layer) != 0) return name + "+SWA";
  }
  return name;
}

std::int64_t rotary_dim(const ModelConfig& config) {
  if (config.is_latent()) return config.qk_pos_emb_head_dim.value();
  return std::llround(config.rotated_share() * static_cast<double>(config.head_dim()));
}

}  // namespace polyhead
