#include "layers/kv_cache.h"

#include <algorithm>

#include "framework/error.h"

namespace polyhead {

namespace {

// Key and value heads of this size and number in place of whatever the model has. Latent attention
// rotates a part of its own; whole heads turn in pairs, so an odd size is rounded up.
ModelConfig grouped_form(const ModelConfig& config, std::int64_t groups) {
  ModelConfig result = config;
  result.kv_channels = config.value_dim() + (config.is_latent() ? config.value_dim() % 2 : 0);
  result.num_query_groups = groups;
  result.q_lora_rank = result.kv_lora_rank = std::nullopt;
  result.qk_head_dim = result.qk_pos_emb_head_dim = result.v_head_dim = std::nullopt;
  result.latent_norm.reset();
  result.mla_norm_epsilon.reset();
  result.rotary_segments.reset();
  result.window_size.reset();
  result.window_pattern.reset();
  return result;
}

// Without what latent attention has no place for: biases, norms of heads, other positions.
ModelConfig latent_form(const ModelConfig& config) {
  ModelConfig result = config;
  result.window_size.reset();
  result.window_pattern.reset();
  if (config.is_latent()) return result;
  result.qk_head_dim = result.v_head_dim = config.head_dim();
  result.kv_lora_rank = 512;
  result.qk_pos_emb_head_dim = 64;
  result.num_query_groups.reset();
  result.kv_channels.reset();
  result.add_bias_linear = result.add_qkv_bias = result.qk_norm = false;
  result.position_embedding = PositionEmbedding::kRope;
  result.rotary_percent.reset();
  return result;
}

}  // namespace

std::int64_t kv_cache_elements(const ModelConfig& config, std::int64_t tensor_parallel_size) {
  if (config.is_latent()) return *config.kv_lora_rank + *config.qk_pos_emb_head_dim;
  return 2 * std::max<std::int64_t>(config.groups() / tensor_parallel_size, 1) * config.head_dim();
}

std::int64_t expanded_kv_cache_elements(const ModelConfig& config,
                                        std::int64_t tensor_parallel_size) {
  if (!config.is_latent()) return kv_cache_elements(config, tensor_parallel_size);
  return config.num_attention_heads / tensor_parallel_size *
         (config.query_key_dim() + config.value_dim());
}

std::int64_t kv_cache_bytes(const ModelConfig& config, std::int64_t context,
                            std::int64_t tensor_parallel_size, std::int64_t bytes_per_element) {
  std::int64_t tokens = 0;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const std::int64_t window = layer_attention_config(config, layer).window;
    tokens += window == 0 ? context : std::min(context, window);
  }
  return tokens * kv_cache_elements(config, tensor_parallel_size) * bytes_per_element;
}

std::int64_t kv_cache_bytes_per_token(const ModelConfig& config, std::int64_t tensor_parallel_size,
                                      std::int64_t bytes_per_element) {
  return config.num_layers * kv_cache_elements(config, tensor_parallel_size) * bytes_per_element;
}

std::vector<AttentionAlternative> attention_alternatives(const ModelConfig& config) {
  const std::int64_t heads = config.num_attention_heads;
  std::vector<AttentionAlternative> alternatives = {{"MHA", grouped_form(config, heads)}};
  for (const std::int64_t groups : {8, 4, 2}) {
    if (heads % groups != 0 || groups >= heads) continue;
    alternatives.push_back({fmt::format("GQA, {} groups", groups), grouped_form(config, groups)});
  }
  if (heads > 1) alternatives.push_back({"MQA", grouped_form(config, 1)});
  const ModelConfig latent = latent_form(config);
  alternatives.push_back(
      {fmt::format("MLA, {} + {}", *latent.kv_lora_rank, *latent.qk_pos_emb_head_dim), latent});
  ModelConfig windowed = config;
  windowed.window_size = config.window_size.value_or(4096);
  windowed.window_pattern.reset();
  alternatives.push_back(
      {fmt::format("{}, window {}", attention_variant(windowed), *windowed.window_size), windowed});
  return alternatives;
}

}  // namespace polyhead
