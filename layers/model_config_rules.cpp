#include <algorithm>
#include <cmath>
#include <limits>

#include "layers/model_config.h"

namespace polyhead {

namespace {

// Bounds that no real model reaches; within them no product of sizes overflows 64 bits.
constexpr std::int64_t kMostLayers = 4096;
constexpr std::int64_t kMostHeads = 4096;
constexpr std::int64_t kWidestHead = 4096;
constexpr std::int64_t kWidestLatent = 1 << 16;
constexpr std::int64_t kWidestHidden = 1 << 20;
constexpr std::int64_t kWidestFfn = 1 << 22;
constexpr std::int64_t kLongestContext = 1 << 24;

void check_sizes(const ModelConfig& c, Rules& rules) {
  rules.require_range(c.num_layers, "num_layers", 1, kMostLayers);
  rules.require_range(c.hidden_size, "hidden_size", 1, kWidestHidden);
  rules.require_range(c.ffn_hidden_size, "ffn_hidden_size", 1, kWidestFfn);
  rules.require_range(c.num_attention_heads, "num_attention_heads", 1, kMostHeads);
  const auto require_range_if_set = [&](const std::optional<std::int64_t>& value, const char* key,
                                        std::int64_t smallest, std::int64_t largest) {
    if (value) rules.require_range(*value, key, smallest, largest);
  };
  require_range_if_set(c.num_query_groups, "num_query_groups", 1, kMostHeads);
  require_range_if_set(c.kv_channels, "kv_channels", 1, kWidestHead);
  require_range_if_set(c.vocab_size, "vocab_size", 2, std::numeric_limits<std::int32_t>::max());
  require_range_if_set(c.q_lora_rank, "q_lora_rank", 1, kWidestLatent);
  require_range_if_set(c.kv_lora_rank, "kv_lora_rank", 1, kWidestLatent);
  require_range_if_set(c.qk_head_dim, "qk_head_dim", 0, kWidestHead);
  require_range_if_set(c.qk_pos_emb_head_dim, "qk_pos_emb_head_dim", 2, kWidestHead);
  require_range_if_set(c.v_head_dim, "v_head_dim", 1, kWidestHead);
  require_range_if_set(c.rotary_segments, "rotary_segments", 1, kMostHeads);
  require_range_if_set(c.window_size, "window_size", 1, kLongestContext);
  require_range_if_set(c.max_position_embeddings, "max_position_embeddings", 1, kLongestContext);
  require_range_if_set(c.original_max_position_embeddings, "original_max_position_embeddings", 1,
                       kLongestContext);
}

void check_numbers(const ModelConfig& c, Rules& rules) {
  const auto require_positive_if_set = [&](const std::optional<double>& value, const char* key) {
    if (value) rules.require_positive(*value, key);
  };
  require_positive_if_set(c.softmax_scale, "softmax_scale");
  require_positive_if_set(c.attention_softcap, "attention_softcap");
  require_positive_if_set(c.final_softcap, "final_softcap");
  require_positive_if_set(c.beta_fast, "beta_fast");
  require_positive_if_set(c.beta_slow, "beta_slow");
  require_positive_if_set(c.low_freq_factor, "low_freq_factor");
  require_positive_if_set(c.high_freq_factor, "high_freq_factor");
  rules.require_positive(c.norm_epsilon, "norm_epsilon");
  rules.require_positive(c.latent_norm_epsilon(), "mla_norm_epsilon");
  rules.require_positive(c.init_method_std, "init_method_std");
  rules.require(c.rotation_base() > 1.0, "rotary_base",
                "got {}; must be greater than 1; usual is 10000", c.rotation_base());
  rules.require(c.rotated_share() > 0.0 && c.rotated_share() <= 1.0, "rotary_percent",
                "got {}; is a share of the head dimension, greater than 0 and at most 1",
                c.rotated_share());
  rules.require(c.rotary_scaling_factor.value_or(1.0) >= 1.0, "rotary_scaling_factor",
                "got {}; must be at least 1", c.rotary_scaling_factor.value_or(1.0));
  rules.require(c.mscale.value_or(0.0) >= 0.0, "mscale", "got {}; must not be negative",
                c.mscale.value_or(0.0));
  rules.require(c.mscale_all_dim.value_or(0.0) >= 0.0, "mscale_all_dim",
                "got {}; must not be negative", c.mscale_all_dim.value_or(0.0));
}

void check_grouped_attention(const ModelConfig& c, Rules& rules) {
  constexpr auto kLatentOnly =
      "only multi-head latent attention reads it; set kv_lora_rank too, or delete it";
  rules.forbid(c.q_lora_rank, "q_lora_rank", kLatentOnly);
  rules.forbid(c.qk_head_dim, "qk_head_dim", kLatentOnly);
  rules.forbid(c.qk_pos_emb_head_dim, "qk_pos_emb_head_dim", kLatentOnly);
  rules.forbid(c.v_head_dim, "v_head_dim", kLatentOnly);
  rules.forbid(c.latent_norm, "latent_norm", kLatentOnly);
  rules.forbid(c.mla_norm_epsilon, "mla_norm_epsilon", kLatentOnly);
  rules.forbid(c.rotary_segments, "rotary_segments", kLatentOnly);
  rules.require(c.num_attention_heads % c.groups() == 0, "num_query_groups",
                "got {}; must divide num_attention_heads ({}); use {}", c.groups(),
                c.num_attention_heads, divisors_of(c.num_attention_heads));
  rules.require(c.kv_channels || c.hidden_size % c.num_attention_heads == 0, "num_attention_heads",
                "got {}; must divide hidden_size ({}) unless kv_channels gives the head dimension",
                c.num_attention_heads, c.hidden_size);
  rules.require(!c.add_qkv_bias || !c.add_bias_linear, "add_qkv_bias",
                "got true; add_bias_linear gives q, k and v their biases already; delete one");
}

void check_latent_attention(const ModelConfig& c, Rules& rules) {
  constexpr auto kNeeded =
      "missing; multi-head latent attention (kv_lora_rank is set) needs it; DeepSeek-V3 has {}";
  rules.require(c.qk_head_dim.has_value(), "qk_head_dim", kNeeded, 128);
  rules.require(c.qk_pos_emb_head_dim.has_value(), "qk_pos_emb_head_dim", kNeeded, 64);
  rules.require(c.v_head_dim.has_value(), "v_head_dim", kNeeded, 128);
  rules.forbid(c.num_query_groups, "num_query_groups",
               "multi-head latent attention (kv_lora_rank is set) has no groups: its heads share "
               "one latent; delete num_query_groups or kv_lora_rank");
  rules.forbid(c.kv_channels, "kv_channels",
               "multi-head latent attention (kv_lora_rank is set) reads qk_head_dim, "
               "qk_pos_emb_head_dim and v_head_dim instead; delete it");
  rules.forbid(c.rotary_percent, "rotary_percent",
               "multi-head latent attention rotates its qk_pos_emb_head_dim dimensions; delete it");
  rules.require(c.position_embedding == PositionEmbedding::kRope, "position_embedding",
                "multi-head latent attention (kv_lora_rank is set) carries positions in its "
                "rotary key; use rope");
  rules.require(!c.qk_norm, "qk_norm",
                "got true; multi-head latent attention normalises its latents instead; delete it");
  rules.require(!c.add_qkv_bias || !c.q_lora_rank, "add_qkv_bias",
                "got true; multi-head latent attention has biases on q_proj and on the "
                "down-projection of keys and values, none on compressed queries; delete it or "
                "q_lora_rank");
  rules.require(!c.add_bias_linear, "add_bias_linear",
                "got true; multi-head latent attention has none on its up-projections; delete it");
  rules.require(c.normalizes_latents() || !c.mla_norm_epsilon, "mla_norm_epsilon",
                "latent_norm is false, so there is no norm that reads it; delete it");
}

void check_positions(const ModelConfig& c, Rules& rules) {
  rules.require(c.position_embedding != PositionEmbedding::kLearned || c.max_position_embeddings,
                "max_position_embeddings",
                "missing; position_embedding learned_absolute has one row per position; set it to "
                "the longest sequence or more");
  if (!c.rotates()) {
    constexpr auto kRopeOnly = "only position_embedding rope reads it; choose rope, or delete it";
    rules.require(!c.rope_type, "rope_type", kRopeOnly);
    rules.forbid(c.rotary_base, "rotary_base", kRopeOnly);
    rules.forbid(c.rotary_percent, "rotary_percent", kRopeOnly);
  }
  const bool yarn = c.rotates() && c.rotation() == RopeType::kYarn;
  const bool llama3 = c.rotates() && c.rotation() == RopeType::kLlama3;
  if (yarn || llama3) {
    constexpr auto kNeeded = "missing; rope_type yarn and llama3 need it";
    rules.require(c.rotary_scaling_factor.has_value(), "rotary_scaling_factor", kNeeded);
    rules.require(c.original_max_position_embeddings.has_value(),
                  "original_max_position_embeddings", kNeeded);
  } else {
    constexpr auto kScaledOnly = "only rope_type yarn and llama3 read it; choose one, or delete it";
    rules.forbid(c.rotary_scaling_factor, "rotary_scaling_factor", kScaledOnly);
    rules.forbid(c.original_max_position_embeddings, "original_max_position_embeddings",
                 kScaledOnly);
  }
  if (!yarn) {
    constexpr auto kYarnOnly = "only rope_type yarn reads it; choose yarn, or delete it";
    rules.forbid(c.beta_fast, "beta_fast", kYarnOnly);
    rules.forbid(c.beta_slow, "beta_slow", kYarnOnly);
    rules.forbid(c.mscale, "mscale", kYarnOnly);
    rules.forbid(c.mscale_all_dim, "mscale_all_dim", kYarnOnly);
  }
  if (!llama3) {
    constexpr auto kLlama3Only = "only rope_type llama3 reads it; choose llama3, or delete it";
    rules.forbid(c.low_freq_factor, "low_freq_factor", kLlama3Only);
    rules.forbid(c.high_freq_factor, "high_freq_factor", kLlama3Only);
  }
  rules.require(c.beta_fast.value_or(32.0) > c.beta_slow.value_or(1.0), "beta_fast",
                "got {}; must be greater than beta_slow ({})", c.beta_fast.value_or(32.0),
                c.beta_slow.value_or(1.0));
  rules.require(c.high_freq_factor.value_or(4.0) > c.low_freq_factor.value_or(1.0),
                "high_freq_factor", "got {}; must be greater than low_freq_factor ({})",
                c.high_freq_factor.value_or(4.0), c.low_freq_factor.value_or(1.0));
}

// Needs valid head dimensions.
void check_rotary_dim(const ModelConfig& c, Rules& rules) {
  if (!c.rotates()) return;
  const std::int64_t dim = rotary_dim(c);
  const char* key = c.is_latent()              ? "qk_pos_emb_head_dim"
                    : c.rotated_share() == 1.0 ? "kv_channels"
                                               : "rotary_percent";
  rules.require(dim >= 2 && dim % 2 == 0, key,
                "{} of {} dimensions rotate; the rotation turns pairs, so their number must be "
                "even and at least 2",
                dim, c.query_key_dim());
  rules.require(c.segments() == 1 || dim % (2 * c.segments()) == 0, "rotary_segments",
                "got {}; must divide the {} rotated dimensions (qk_pos_emb_head_dim) into parts of "
                "an even number",
                c.segments(), dim);
  const double exact = c.rotated_share() * static_cast<double>(c.head_dim());
  rules.require(c.is_latent() || std::abs(exact - static_cast<double>(dim)) < 1e-6,
                "rotary_percent",
                "got {}; of the {} dimensions of a head it is {}, not a whole number",
                c.rotated_share(), c.head_dim(), exact);
}

void check_window(const ModelConfig& c, Rules& rules) {
  if (!c.window_pattern) return;
  const WindowPattern& pattern = *c.window_pattern;
  const std::int64_t listed = static_cast<std::int64_t>(pattern.layers.size());
  rules.require(c.window_size.has_value(), "window_pattern",
                "there is no window; set window_size too, or delete it");
  if (pattern.layers.empty()) {
    rules.require(pattern.global_every >= 2, "window_pattern",
                  "got {}; every n-th layer attends globally, so n must be at least 2 for any "
                  "layer to keep its window; 2 alternates",
                  pattern.global_every);
    return;
  }
  rules.require(listed == c.num_layers, "window_pattern",
                "lists {} layers; must list num_layers ({}), 1 for a windowed layer, 0 for a "
                "global one",
                listed, c.num_layers);
  rules.require(std::all_of(pattern.layers.begin(), pattern.layers.end(),
                            [](std::int64_t entry) { return entry == 0 || entry == 1; }),
                "window_pattern", "must list 1 for a windowed layer and 0 for a global one");
  rules.require(std::find(pattern.layers.begin(), pattern.layers.end(), 1) != pattern.layers.end(),
                "window_pattern", "lists no windowed layer; delete it together with window_size");
}

void check_norms(const ModelConfig& c, Rules& rules) {
  rules.require(
      c.normalization == Normalization::kRmsNorm || c.norm_weight == ops::NormWeight::kPlain,
      "norm_weight", "got one_plus; only normalization RMSNorm has it; use plain");
}

void check_tensor_parallel(const ModelConfig& c, std::int64_t tp, Rules& rules) {
  rules.require(
      c.num_attention_heads % tp == 0, "num_attention_heads",
      "got {}; must be a multiple of tensor_model_parallel_size ({}), each rank holds whole heads",
      c.num_attention_heads, tp);
  rules.require(c.ffn_hidden_size % tp == 0, "ffn_hidden_size",
                "got {}; must be a multiple of tensor_model_parallel_size ({})", c.ffn_hidden_size,
                tp);
  rules.require(c.is_latent() || c.groups() % tp == 0 || tp % c.groups() == 0, "num_query_groups",
                "got {}; must be a multiple or a divisor of tensor_model_parallel_size ({})",
                c.groups(), tp);
}

}  // namespace

std::vector<RuleViolation> model_rule_violations(const ModelConfig& config,
                                                 std::int64_t tensor_parallel_size) {
  Rules rules;
  check_sizes(config, rules);
  check_numbers(config, rules);
  // The rules below divide by sizes.
  if (!rules.all_hold() || tensor_parallel_size < 1) return rules.violations();
  if (config.is_latent()) {
    check_latent_attention(config, rules);
  } else {
    check_grouped_attention(config, rules);
  }
  check_positions(config, rules);
  if (rules.all_hold()) check_rotary_dim(config, rules);
  check_window(config, rules);
  check_norms(config, rules);
  check_tensor_parallel(config, tensor_parallel_size, rules);
  return rules.violations();
}

}  // namespace polyhead
