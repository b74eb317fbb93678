// Small models, one for every attention variant and option, on odd sizes. Heads and ffn divide by
// 4, so that each also runs on 2 and 4 tensor-parallel ranks.
#pragma once

#include <ostream>
#include <string>
#include <vector>

#include "layers/model_config.h"

namespace polyhead::testing {

struct Variant {
  std::string name;
  ModelConfig config;
};

inline void PrintTo(const Variant& variant, std::ostream* out) {
  *out << variant.name;
}

inline ModelConfig small_config() {
  ModelConfig config;
  config.num_layers = 2;
  config.hidden_size = 20;
  config.ffn_hidden_size = 28;
  config.num_attention_heads = 8;
  config.kv_channels = 6;
  config.vocab_size = 37;
  config.init_method_std = 0.3;  // so that every path carries a gradient of order one
  return config;
}

inline ModelConfig small_latent_config() {
  ModelConfig config = small_config();
  config.kv_channels.reset();
  config.kv_lora_rank = 9;
  config.qk_head_dim = 5;
  config.qk_pos_emb_head_dim = 4;
  config.v_head_dim = 7;
  return config;
}

template <class Change>
Variant variant(std::string name, ModelConfig config, Change change) {
  change(config);
  return {std::move(name), std::move(config)};
}

// The variants of attention: MHA, GQA, MQA, MLA with and without query compression, windows.
inline std::vector<Variant> attention_variants() {
  const ModelConfig grouped = small_config(), latent = small_latent_config();
  return {
      variant("mha", grouped, [](ModelConfig&) {}),
      variant("gqa4", grouped, [](ModelConfig& c) { c.num_query_groups = 4; }),
      variant("gqa2", grouped, [](ModelConfig& c) { c.num_query_groups = 2; }),
      variant("mqa", grouped, [](ModelConfig& c) { c.num_query_groups = 1; }),
      variant("mla", latent, [](ModelConfig& c) { c.q_lora_rank = 11; }),
      variant("mla_without_query_rank", latent, [](ModelConfig&) {}),
      variant("swa", grouped, [](ModelConfig& c) { c.window_size = 3; }),
      variant("alternating", grouped,
              [](ModelConfig& c) {
                c.num_query_groups = 2;
                c.window_size = 2;
                c.window_pattern = WindowPattern{2, {}};
              }),
      variant("mla_window", latent, [](ModelConfig& c) { c.window_size = 3; }),
      // What an exact conversion of grouped-query attention needs.
      variant("mla_of_groups", latent,
              [](ModelConfig& c) {
                c.qk_head_dim = 0;
                c.qk_pos_emb_head_dim = 12;
                c.rotary_segments = 3;
                c.latent_norm = false;
                c.add_qkv_bias = true;
              }),
      variant("mla_without_latent_norm", latent,
              [](ModelConfig& c) {
                c.q_lora_rank = 11;
                c.latent_norm = false;
              }),
  };
}

// What else a configuration may ask for, in combinations that occur in real models.
inline std::vector<Variant> option_variants() {
  const ModelConfig grouped = small_config(), latent = small_latent_config();
  return {
      variant("qwen2_qwen3", grouped,
              [](ModelConfig& c) {
                c.num_query_groups = 2;
                c.add_qkv_bias = true;
                c.qk_norm = true;
              }),
      variant("gpt2", grouped,
              [](ModelConfig& c) {
                c.position_embedding = PositionEmbedding::kLearned;
                c.max_position_embeddings = 9;
                c.normalization = Normalization::kLayerNorm;
                c.activation = ops::Activation::kGeluTanh;
                c.add_bias_linear = true;
                c.tie_word_embeddings = true;
              }),
      variant("gemma2", grouped,
              [](ModelConfig& c) {
                c.num_query_groups = 4;
                c.norm_weight = ops::NormWeight::kOnePlus;
                c.post_norms = true;
                c.activation = ops::Activation::kGeglu;
                c.attention_softcap = 3.0;
                c.final_softcap = 2.0;
                c.scale_embeddings = true;
                c.tie_word_embeddings = true;
                c.window_size = 3;
                c.window_pattern = WindowPattern{2, {}};
              }),
      variant("alibi_mqa", grouped,
              [](ModelConfig& c) {
                c.num_query_groups = 1;
                c.position_embedding = PositionEmbedding::kAlibi;
                c.activation = ops::Activation::kGelu;
              }),
      variant("partial_rope", grouped, [](ModelConfig& c) { c.rotary_percent = 2.0 / 3.0; }),
      variant("no_positions", grouped,
              [](ModelConfig& c) { c.position_embedding = PositionEmbedding::kNone; }),
      variant("llama3_rope", grouped,
              [](ModelConfig& c) {
                c.num_query_groups = 4;
                c.rope_type = RopeType::kLlama3;
                c.rotary_scaling_factor = 8.0;
                c.original_max_position_embeddings = 16;
              }),
      variant("mla_yarn", latent,
              [](ModelConfig& c) {
                c.q_lora_rank = 11;
                c.rope_type = RopeType::kYarn;
                c.rotary_scaling_factor = 40.0;
                c.original_max_position_embeddings = 16;
                c.mscale = 1.0;
                c.mscale_all_dim = 1.0;
              }),
  };
}

inline std::vector<Variant> all_variants() {
  std::vector<Variant> variants = attention_variants();
  for (Variant& option : option_variants()) variants.push_back(std::move(option));
  return variants;
}

}  // namespace polyhead::testing
