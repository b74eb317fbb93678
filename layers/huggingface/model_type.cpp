#include <algorithm>
#include <cmath>
#include <functional>
#include <vector>

#include "layers/huggingface/config_json.h"

namespace polyhead {
namespace {

// Whether a layer slides its window is as `expected` says, for every layer.
bool windows_match(const ModelConfig& config, const std::function<bool(std::int64_t)>& expected) {
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    if ((layer_attention_config(config, layer).window != 0) != expected(layer)) return false;
  }
  return true;
}
bool no_windows(const ModelConfig& config) {
  return windows_match(config, [](std::int64_t) { return false; });
}
bool all_windows(const ModelConfig& config) {
  return windows_match(config, [](std::int64_t) { return true; });
}

// Some classes refuse anything else, even where the file gives the dimension of a head.
bool has_even_heads(const ModelConfig& c) {
  return c.hidden_size % c.num_attention_heads == 0;
}

bool has_default_softmax_scale(const ModelConfig& config) {
  ModelConfig without = config;
  without.softmax_scale.reset();
  const double expected = layer_attention_config(without, 0).softmax_scale;
  return std::abs(layer_attention_config(config, 0).softmax_scale - expected) <= 1e-12 * expected;
}

bool is_gpt2(const ModelConfig& c) {
  return !c.is_latent() && c.position_embedding == PositionEmbedding::kLearned &&
         c.normalization == Normalization::kLayerNorm && !ops::is_gated(c.activation) &&
         c.add_bias_linear && c.groups() == c.num_attention_heads &&
         c.head_dim() * c.num_attention_heads == c.hidden_size && !c.qk_norm && !c.post_norms &&
         !c.scale_embeddings && !c.attention_softcap && !c.final_softcap && no_windows(c) &&
         has_default_softmax_scale(c);
}

// What Llama, Mistral, Qwen and DeepSeek have in common.
bool is_plain(const ModelConfig& c) {
  return c.rotates() && c.rotated_share() == 1.0 && c.normalization == Normalization::kRmsNorm &&
         c.norm_weight == ops::NormWeight::kPlain && !c.post_norms &&
         c.activation == ops::Activation::kSwiglu && !c.scale_embeddings && !c.attention_softcap &&
         !c.final_softcap && has_default_softmax_scale(c);
}

// Its class has a whole number there.
bool has_gemma2_scale(const ModelConfig& c) {
  const double scale = layer_attention_config(c, 0).softmax_scale;
  const double scalar = 1.0 / (scale * scale);
  return std::abs(scalar - std::round(scalar)) <= 1e-9 * scalar;
}

bool is_gemma2(const ModelConfig& c) {
  return !c.is_latent() && c.rotates() && c.rotated_share() == 1.0 &&
         c.rotation() == RopeType::kRope && c.normalization == Normalization::kRmsNorm &&
         c.norm_weight == ops::NormWeight::kOnePlus && c.post_norms && !c.qk_norm &&
         c.activation == ops::Activation::kGeglu && c.scale_embeddings && c.tie_word_embeddings &&
         !c.add_bias_linear && !c.add_qkv_bias && has_gemma2_scale(c) && has_even_heads(c) &&
         windows_match(c, [](std::int64_t layer) { return layer % 2 == 0; });
}

// Its classes always normalise the latents, with a fixed epsilon, and know one run of frequencies.
bool is_deepseek(const ModelConfig& c) {
  return c.is_latent() && is_plain(c) && no_windows(c) && !c.add_qkv_bias &&
         c.normalizes_latents() && c.latent_norm_epsilon() == 1e-6 && c.segments() == 1;
}

}  // namespace

std::string_view huggingface_model_type(const ModelConfig& c) {
  if (is_gemma2(c)) return "gemma2";
  if (is_gpt2(c)) return "gpt2";
  if (is_deepseek(c)) return "deepseek_v3";
  if (c.is_latent() || !is_plain(c)) return "polyhead";
  if (c.qk_norm) return c.add_bias_linear || c.add_qkv_bias ? "polyhead" : "qwen3";
  if (c.add_qkv_bias) return "qwen2";
  if (no_windows(c) && has_even_heads(c)) return "llama";
  if (c.add_bias_linear) return "polyhead";
  return no_windows(c) || all_windows(c) ? "mistral" : "ministral";
}

}  // namespace polyhead
