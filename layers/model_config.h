// The model section of a configuration: keys, defaults, and what each layer derives from them.
//
// One key decides the attention: num_query_groups (absent or equal to the heads: MHA; 1: MQA;
// between: GQA), kv_lora_rank (MLA), window_size (sliding window). Rules are in
// model_config_rules.cpp, one per line.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "framework/config/rules.h"
#include "framework/ops/activation.h"
#include "framework/ops/normalization.h"
#include "framework/parameters/parameter.h"

namespace polyhead {

enum class Normalization { kRmsNorm, kLayerNorm };
enum class PositionEmbedding { kRope, kLearned, kAlibi, kNone };
enum class RopeType { kRope, kYarn, kLlama3 };

// Which layers slide their window: every one but each n-th (1-based layer numbers divisible by n
// attend globally), or a list with 1 for a windowed layer and 0 for a global one.
struct WindowPattern {
  std::int64_t global_every = 0;  // 0: all layers slide
  std::vector<std::int64_t> layers;
};

struct ModelConfig {
  std::int64_t num_layers = 0;
  std::int64_t hidden_size = 0;
  std::int64_t ffn_hidden_size = 0;
  std::int64_t num_attention_heads = 0;
  std::optional<std::int64_t> num_query_groups;  // absent: as many as heads
  std::optional<std::int64_t> kv_channels;       // head dimension; absent: hidden_size / heads
  std::optional<std::int64_t> vocab_size;        // absent: the tokenizer's

  // Multi-head latent attention (DeepSeek-V2); present as soon as kv_lora_rank is.
  std::optional<std::int64_t> q_lora_rank;
  std::optional<std::int64_t> kv_lora_rank;
  std::optional<std::int64_t> qk_head_dim;          // without rotation
  std::optional<std::int64_t> qk_pos_emb_head_dim;  // with rotation, one key shared by all heads
  std::optional<std::int64_t> v_head_dim;
  std::optional<bool> latent_norm;         // RMSNorm on the latents; absent: true
  std::optional<double> mla_norm_epsilon;  // absent: 1e-6

  std::optional<std::int64_t> window_size;  // tokens, the query's own included
  std::optional<WindowPattern> window_pattern;
  std::optional<double> softmax_scale;  // absent: 1 / sqrt(head dimension), YaRN's factor for MLA
  std::optional<double> attention_softcap;
  std::optional<double> final_softcap;
  bool qk_norm = false;  // RMSNorm on each head of q and k before the rotation

  PositionEmbedding position_embedding = PositionEmbedding::kRope;
  std::optional<std::int64_t> max_position_embeddings;  // required for learned positions
  // Of the rotation, and so of position_embedding rope alone.
  std::optional<double> rotary_base;     // absent: 10000
  std::optional<double> rotary_percent;  // absent: 1
  // MLA: parts of the shared key with the same frequencies, those of a head that is as long as one
  // part; pair j of part s is pair s * pairs of a part + j of the half-split whole. Absent: 1.
  std::optional<std::int64_t> rotary_segments;
  std::optional<RopeType> rope_type;            // absent: plain
  std::optional<double> rotary_scaling_factor;  // YaRN, Llama 3
  std::optional<std::int64_t> original_max_position_embeddings;
  std::optional<double> beta_fast, beta_slow;               // YaRN: 32, 1
  std::optional<double> mscale, mscale_all_dim;             // YaRN: 1, 0
  std::optional<double> low_freq_factor, high_freq_factor;  // Llama 3: 1, 4

  Normalization normalization = Normalization::kRmsNorm;
  double norm_epsilon = 1e-5;
  ops::NormWeight norm_weight = ops::NormWeight::kPlain;
  bool post_norms = false;  // a norm on each sub-layer's output too, as in Gemma 2
  ops::Activation activation = ops::Activation::kSwiglu;
  bool add_bias_linear = false;  // on every linear layer but the head
  bool add_qkv_bias = false;     // on q, k and v alone; MLA: on q_proj and the down-projection
  bool tie_word_embeddings = false;
  bool scale_embeddings = false;  // embeddings times sqrt(hidden_size), as in Gemma
  double init_method_std = 0.02;  // output projections: divided by sqrt(2 num_layers)

  bool is_latent() const { return kv_lora_rank.has_value(); }
  std::int64_t groups() const { return num_query_groups.value_or(num_attention_heads); }
  std::int64_t head_dim() const { return kv_channels.value_or(hidden_size / num_attention_heads); }
  // Dimensions of one head's query and key, and of its value: K and V of the shape legend.
  std::int64_t query_key_dim() const {
    return is_latent() ? *qk_head_dim + *qk_pos_emb_head_dim : head_dim();
  }
  std::int64_t value_dim() const { return is_latent() ? *v_head_dim : head_dim(); }
  bool normalizes_latents() const { return latent_norm.value_or(true); }
  double latent_norm_epsilon() const { return mla_norm_epsilon.value_or(1e-6); }
  bool rotates() const { return position_embedding == PositionEmbedding::kRope; }
  double rotation_base() const { return rotary_base.value_or(10000.0); }
  double rotated_share() const { return rotary_percent.value_or(1.0); }
  std::int64_t segments() const { return rotary_segments.value_or(1); }
  RopeType rotation() const { return rope_type.value_or(RopeType::kRope); }
};

// What differs between the attentions of one model's layers, derived from the model's keys.
struct LayerAttentionConfig {
  std::int64_t layer = 0;   // counted from 0
  std::int64_t window = 0;  // visible tokens, the query's own included; 0: global
  double softmax_scale = 1.0;
};
LayerAttentionConfig layer_attention_config(const ModelConfig& config, std::int64_t layer);

// "MHA", "GQA", "MQA" or "MLA", with "+SWA" where a window slides on all or some layers.
std::string attention_variant(const ModelConfig& config);

// Initial values of attention's and the MLP's output projections: init_method_std / sqrt(2 layers),
// so that the residual stream's variance does not grow with depth (GPT-2).
Initialization output_initialization(const ModelConfig& config);

// The YaRN amplitude of DeepSeek-V2: 1 for scale <= 1, else 0.1 mscale ln(scale) + 1.
double yarn_mscale(double scale, double mscale);

// Inverse frequencies of the rotated dimensions and the amplitude of cos and sin, after scaling.
struct RotaryFrequencies {
  std::vector<double> inverse_frequencies;  // rotary_dim / 2
  double amplitude = 1.0;
};
// rotary_dim: dimensions that rotate: rotary_percent of the head, or qk_pos_emb_head_dim.
std::int64_t rotary_dim(const ModelConfig& config);
RotaryFrequencies rotary_frequencies(const ModelConfig& config);

// All broken rules at once; pure. Empty: the model can be built on tensor_parallel_size ranks.
std::vector<RuleViolation> model_rule_violations(const ModelConfig& config,
                                                 std::int64_t tensor_parallel_size);

}  // namespace polyhead
