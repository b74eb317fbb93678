// The keys of the model section, as a configuration file spells them.
#pragma once

#include <string>

#include "framework/config/enum_names.h"
#include "framework/config/fields.h"
#include "framework/config/yaml_node.h"
#include "layers/model_config.h"

namespace polyhead {

template <>
struct EnumNames<Normalization> {
  static constexpr std::array kNames = {"RMSNorm", "LayerNorm"};
};
template <>
struct EnumNames<PositionEmbedding> {
  static constexpr std::array kNames = {"rope", "learned_absolute", "alibi", "none"};
};
template <>
struct EnumNames<RopeType> {
  static constexpr std::array kNames = {"rope", "yarn", "llama3"};
};
template <>
struct EnumNames<ops::NormWeight> {
  static constexpr std::array kNames = {"plain", "one_plus"};
};
template <>
struct EnumNames<ops::Activation> {
  static constexpr std::array kNames = {"swiglu", "geglu", "gelu_tanh", "gelu"};
};

// An integer n, or a list with one entry per layer.
void read_value(const YamlNode& node, WindowPattern& pattern);
std::string yaml_text(const WindowPattern& pattern);

template <class Visitor>
void visit_fields(Visitor& visitor, ModelConfig& config) {
  visitor("num_layers", config.num_layers, {.required = true});
  visitor("hidden_size", config.hidden_size, {.required = true});
  visitor("ffn_hidden_size", config.ffn_hidden_size, {.required = true});
  visitor("num_attention_heads", config.num_attention_heads, {.required = true});
  visitor("num_query_groups", config.num_query_groups);
  visitor("kv_channels", config.kv_channels);
  visitor("vocab_size", config.vocab_size);

  visitor("q_lora_rank", config.q_lora_rank);
  visitor("kv_lora_rank", config.kv_lora_rank);
  visitor("qk_head_dim", config.qk_head_dim);
  visitor("qk_pos_emb_head_dim", config.qk_pos_emb_head_dim);
  visitor("v_head_dim", config.v_head_dim);
  visitor("latent_norm", config.latent_norm);
  visitor("mla_norm_epsilon", config.mla_norm_epsilon);

  visitor("window_size", config.window_size);
  visitor("window_pattern", config.window_pattern, {.aliases = {"window_attn_skip_freq"}});
  visitor("softmax_scale", config.softmax_scale);
  visitor("attention_softcap", config.attention_softcap, {.aliases = {"attn_softcap"}});
  visitor("final_softcap", config.final_softcap);
  visitor("qk_norm", config.qk_norm, {.aliases = {"qk_layernorm"}});

  visitor("position_embedding", config.position_embedding,
          {.aliases = {"position_embedding_type"}});
  visitor("max_position_embeddings", config.max_position_embeddings);
  visitor("rotary_base", config.rotary_base);
  visitor("rotary_percent", config.rotary_percent);
  visitor("rotary_segments", config.rotary_segments);
  visitor("rope_type", config.rope_type);
  visitor("rotary_scaling_factor", config.rotary_scaling_factor,
          {.aliases = {"rope_scaling_factor"}});
  visitor("original_max_position_embeddings", config.original_max_position_embeddings);
  visitor("beta_fast", config.beta_fast);
  visitor("beta_slow", config.beta_slow);
  visitor("mscale", config.mscale);
  visitor("mscale_all_dim", config.mscale_all_dim);
  visitor("low_freq_factor", config.low_freq_factor);
  visitor("high_freq_factor", config.high_freq_factor);

  visitor("normalization", config.normalization);
  visitor("norm_epsilon", config.norm_epsilon, {.aliases = {"layernorm_epsilon"}});
  visitor("norm_weight", config.norm_weight);
  visitor("post_norms", config.post_norms);
  visitor("activation", config.activation);
  visitor("add_bias_linear", config.add_bias_linear);
  visitor("add_qkv_bias", config.add_qkv_bias);
  visitor("tie_word_embeddings", config.tie_word_embeddings);
  visitor("scale_embeddings", config.scale_embeddings);
  visitor("init_method_std", config.init_method_std);

  visitor.unsupported("hidden_dropout", "0", "dropout is not built");
  visitor.unsupported("attention_dropout", "0", "dropout is not built");
  visitor.unsupported("num_experts", "null", "mixtures of experts are not built");
  visitor.unsupported("group_query_attention", "", "num_query_groups alone decides; delete it");
  visitor.unsupported("multi_latent_attention", "", "kv_lora_rank alone decides; delete it");
  visitor.unsupported("untie_embeddings_and_output_weights", "", "use tie_word_embeddings");
  visitor.unsupported("disable_bias_linear", "", "use add_bias_linear");
  visitor.unsupported("swiglu", "", "use activation: swiglu");
}

}  // namespace polyhead
