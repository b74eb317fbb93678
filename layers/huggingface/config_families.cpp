#include "layers/huggingface/config_families.h"

#include <algorithm>
#include <cmath>

#include "layers/huggingface/rotary_fields.h"

namespace polyhead {
namespace {

constexpr std::int64_t kMostLayers = 4096;

void read_tied(ConfigFields& fields, bool absent, ModelConfig& config) {
  config.tie_word_embeddings = fields.flag("tie_word_embeddings").value_or(absent);
}

void read_initializer(ConfigFields& fields, ModelConfig& config) {
  const std::optional<double> range = fields.number("initializer_range");
  if (range && *range > 0) config.init_method_std = *range;
}

// What all families but GPT-2 have in common, biases and windows aside.
void read_common(ConfigFields& fields, ModelConfig& config) {
  config.vocab_size = fields.required_integer("vocab_size");
  config.hidden_size = fields.required_integer("hidden_size");
  config.ffn_hidden_size = fields.required_integer("intermediate_size");
  config.num_layers = fields.required_integer("num_hidden_layers");
  // Lists of layers are made before the model's rules are asked.
  if (config.num_layers < 1 || config.num_layers > kMostLayers) {
    fields.refuse("num_hidden_layers", fmt::format("must lie in 1 to {}", kMostLayers));
  }
  config.num_attention_heads = fields.required_integer("num_attention_heads");
  config.max_position_embeddings = fields.required_integer("max_position_embeddings");
  config.norm_epsilon = fields.number("rms_norm_eps").value_or(1e-6);
  read_initializer(fields, config);
  fields.read_dropout("attention_dropout", 0.0);
}

void read_groups(ConfigFields& fields, ModelConfig& config) {
  config.num_query_groups = fields.integer("num_key_value_heads");
  config.kv_channels = fields.integer("head_dim");
}

void require_silu(ConfigFields& fields) {
  if (fields.text("hidden_act").value_or("silu") != "silu") {
    fields.refuse("hidden_act", "this family is computed with silu alone");
  }
}

void require_no_attention_bias(ConfigFields& fields) {
  fields.require_flag("attention_bias", false, false,
                      "biases on this family's attention are not computed; take a model without");
}

// `slides` has an entry for each layer.
void set_windows(std::int64_t window, const std::vector<std::int64_t>& slides,
                 ModelConfig& config) {
  if (std::ranges::find(slides, 1) == slides.end()) return;
  config.window_size = window;
  if (std::ranges::find(slides, 0) != slides.end()) {
    config.window_pattern = WindowPattern{0, slides};
  }
}

// layer_types, or nothing where the file has none.
std::optional<std::vector<std::int64_t>> read_layer_types(ConfigFields& fields) {
  const std::optional<std::vector<std::string>> types = fields.texts("layer_types");
  if (!types) return std::nullopt;
  std::vector<std::int64_t> slides;
  for (const std::string& type : *types) {
    if (type != "sliding_attention" && type != "full_attention") {
      fields.refuse("layer_types", "layers are sliding_attention or full_attention");
    }
    slides.push_back(type == "sliding_attention" ? 1 : 0);
  }
  return slides;
}

// The layers that slide where layer_types does not say it.
template <class Slides>
std::vector<std::int64_t> layers_where(const ModelConfig& config, Slides slides) {
  std::vector<std::int64_t> layers;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    layers.push_back(slides(layer) ? 1 : 0);
  }
  return layers;
}

void read_llama(ConfigFields& fields, ModelConfig& config) {
  read_common(fields, config);
  read_groups(fields, config);
  read_rotation(fields, config);
  require_silu(fields);
  read_tied(fields, false, config);
  config.add_bias_linear = fields.flag("attention_bias").value_or(false);
  if (fields.flag("mlp_bias").value_or(false) != config.add_bias_linear) {
    fields.refuse("mlp_bias",
                  "biases are on all linear layers or on none: attention_bias and "
                  "mlp_bias must be equal");
  }
}

void read_mistral(ConfigFields& fields, ModelConfig& config) {
  constexpr std::int64_t kDefaultWindow = 4096;
  read_common(fields, config);
  read_groups(fields, config);
  read_rotation(fields, config);
  require_silu(fields);
  read_tied(fields, false, config);
  // Of this class absence is not null.
  const std::optional<std::int64_t> window = fields.integer("sliding_window");
  if (window || !fields.contains("sliding_window")) {
    config.window_size = window.value_or(kDefaultWindow);
  }
}

void read_ministral(ConfigFields& fields, ModelConfig& config) {
  read_mistral(fields, config);
  const std::optional<std::vector<std::int64_t>> slides = read_layer_types(fields);
  if (!slides || !config.window_size) return;
  const std::int64_t window = *config.window_size;
  config.window_size.reset();
  set_windows(window, *slides, config);
}

void read_qwen(ConfigFields& fields, ModelConfig& config) {
  constexpr std::int64_t kDefaultWindow = 4096, kDefaultWindowLayers = 28;
  read_common(fields, config);
  read_groups(fields, config);
  read_rotation(fields, config);
  require_silu(fields);
  read_tied(fields, false, config);
  const bool uses = fields.flag("use_sliding_window").value_or(false);
  std::optional<std::int64_t> window = fields.integer("sliding_window");
  if (!fields.contains("sliding_window")) window = kDefaultWindow;
  const std::int64_t first = fields.integer("max_window_layers").value_or(kDefaultWindowLayers);
  const std::vector<std::int64_t> slides = read_layer_types(fields).value_or(
      layers_where(config, [&](std::int64_t layer) { return uses && window && layer >= first; }));
  if (uses && window) return set_windows(*window, slides, config);
  if (std::ranges::find(slides, 1) != slides.end()) {
    fields.refuse("layer_types",
                  "some layers slide, but use_sliding_window or sliding_window "
                  "says that there is no window");
  }
}

void read_qwen2(ConfigFields& fields, ModelConfig& config) {
  read_qwen(fields, config);
  config.add_qkv_bias = true;
}

void read_qwen3(ConfigFields& fields, ModelConfig& config) {
  constexpr std::int64_t kDefaultHeadDim = 128;
  read_qwen(fields, config);
  config.qk_norm = true;
  if (!config.kv_channels) config.kv_channels = kDefaultHeadDim;
  require_no_attention_bias(fields);
}

std::optional<double> read_softcap(ConfigFields& fields, std::string_view key, double absent) {
  return fields.contains(key) ? fields.number(key) : absent;
}

void read_gemma2(ConfigFields& fields, ModelConfig& config) {
  constexpr std::int64_t kDefaultHeadDim = 256, kDefaultWindow = 4096;
  constexpr double kDefaultScalar = 256;
  read_common(fields, config);
  read_groups(fields, config);
  read_rotation(fields, config);
  read_tied(fields, true, config);
  if (!config.kv_channels) config.kv_channels = kDefaultHeadDim;
  const std::string activation = fields.text("hidden_activation").value_or("gelu_pytorch_tanh");
  if (activation != "gelu_pytorch_tanh") {
    fields.refuse("hidden_activation", "this family is computed with gelu_pytorch_tanh alone");
  }
  require_no_attention_bias(fields);
  fields.require_flag("use_bidirectional_attention", false, false,
                      "attention is causal; set it to false");
  const double scalar = fields.number("query_pre_attn_scalar").value_or(kDefaultScalar);
  if (scalar <= 0) fields.refuse("query_pre_attn_scalar", "must be greater than 0");
  config.softmax_scale = 1.0 / std::sqrt(scalar);
  config.attention_softcap = read_softcap(fields, "attn_logit_softcapping", 50.0);
  config.final_softcap = read_softcap(fields, "final_logit_softcapping", 30.0);
  config.norm_weight = ops::NormWeight::kOnePlus;
  config.post_norms = config.scale_embeddings = true;
  config.activation = ops::Activation::kGeglu;
  std::optional<std::int64_t> window = fields.integer("sliding_window");
  if (!fields.contains("sliding_window")) window = kDefaultWindow;
  const std::vector<std::int64_t> slides = read_layer_types(fields).value_or(
      layers_where(config, [](std::int64_t layer) { return layer % 2 == 0; }));
  if (window) set_windows(*window, slides, config);
}

ops::Activation read_gpt2_activation(ConfigFields& fields) {
  const std::string name = fields.text("activation_function").value_or("gelu_new");
  if (name == "gelu_new" || name == "gelu_pytorch_tanh") return ops::Activation::kGeluTanh;
  if (name == "gelu") return ops::Activation::kGelu;
  fields.refuse("activation_function", "only gelu_new, gelu_pytorch_tanh and gelu are computed");
}

void read_gpt2(ConfigFields& fields, ModelConfig& config) {
  constexpr std::int64_t kFfnFactor = 4;
  constexpr double kDefaultDropout = 0.1;
  config.vocab_size = fields.required_integer("vocab_size");
  config.hidden_size = fields.required_integer("n_embd");
  config.num_layers = fields.required_integer("n_layer");
  config.num_attention_heads = fields.required_integer("n_head");
  config.max_position_embeddings = fields.required_integer("n_positions");
  config.position_embedding = PositionEmbedding::kLearned;
  config.normalization = Normalization::kLayerNorm;
  config.norm_epsilon = fields.number("layer_norm_epsilon").value_or(1e-5);
  config.activation = read_gpt2_activation(fields);
  config.add_bias_linear = true;
  read_tied(fields, true, config);
  read_initializer(fields, config);
  // No rule has bounded the width yet.
  const std::optional<std::int64_t> inner = fields.integer("n_inner");
  config.ffn_hidden_size =
      inner ? *inner : std::clamp<std::int64_t>(config.hidden_size, 0, INT32_MAX) * kFfnFactor;
  for (const char* key : {"resid_pdrop", "embd_pdrop", "attn_pdrop"}) {
    fields.read_dropout(key, kDefaultDropout);
  }
  fields.require_flag("scale_attn_weights", true, true,
                      "scores without 1 / sqrt(head dimension) are not this family's; set it to "
                      "true, or take another model");
  fields.require_flag("scale_attn_by_inverse_layer_idx", false, false,
                      "scores that shrink with depth are not computed; take another model");
  fields.require_flag("add_cross_attention", false, false,
                      "there is no encoder to attend to; take another model");
}

void read_deepseek(ConfigFields& fields, std::int64_t default_dense_layers, ModelConfig& config) {
  constexpr std::int64_t kDefaultQueryRank = 1536;
  read_common(fields, config);
  config.kv_lora_rank = fields.required_integer("kv_lora_rank");
  config.q_lora_rank = fields.integer("q_lora_rank");
  if (!fields.contains("q_lora_rank")) config.q_lora_rank = kDefaultQueryRank;
  config.qk_head_dim = fields.required_integer("qk_nope_head_dim");
  config.qk_pos_emb_head_dim = fields.required_integer("qk_rope_head_dim");
  config.v_head_dim = fields.required_integer("v_head_dim");
  read_rotation(fields, config);
  require_silu(fields);
  read_tied(fields, false, config);
  require_no_attention_bias(fields);
  const std::int64_t groups =
      fields.integer("num_key_value_heads").value_or(config.num_attention_heads);
  if (groups != config.num_attention_heads) {
    fields.refuse("num_key_value_heads", "latent attention has as many as num_attention_heads");
  }
  if (fields.integer("first_k_dense_replace").value_or(default_dense_layers) < config.num_layers) {
    fields.refuse("first_k_dense_replace",
                  fmt::format("layers from it on are mixtures of experts, which are not built; "
                              "only models whose {} layers are all dense are read",
                              config.num_layers));
  }
}

void read_deepseek_v2(ConfigFields& fields, ModelConfig& config) {
  read_deepseek(fields, 0, config);
  fields.require_flag("mlp_bias", false, false, "biases of the MLP are not computed here");
  fields.require_flag("rope_interleave", true, true,
                      "this family's class rotates adjacent features whatever the file says; "
                      "delete it, or write model_type deepseek_v3");
}

void read_deepseek_v3(ConfigFields& fields, ModelConfig& config) {
  constexpr std::int64_t kDefaultDenseLayers = 3;
  read_deepseek(fields, kDefaultDenseLayers, config);
}

constexpr ConfigFamily kFamilies[] = {
    {"llama", read_llama},
    {"mistral", read_mistral},
    {"ministral", read_ministral},
    {"qwen2", read_qwen2},
    {"qwen3", read_qwen3},
    {"gemma2", read_gemma2},
    {"gpt2", read_gpt2},
    {"deepseek_v2", read_deepseek_v2},
    {"deepseek_v3", read_deepseek_v3},
    {"polyhead", read_polyhead_fields},
};

}  // namespace

std::span<const ConfigFamily> config_families() {
  return kFamilies;
}

}  // namespace polyhead
