#include "layers/huggingface/config_json.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "layers/model_config_fields.h"

namespace polyhead {
namespace {

using Json = nlohmann::ordered_json;

// Polyhead's own keys, those that are set.
class JsonFields {
 public:
  explicit JsonFields(Json& json) : json_(json) {}

  template <class T>
  void operator()(std::string_view key, T& value, const FieldOptions& = {}) {
    if constexpr (IsOptional<T>::value) {
      if (value) (*this)(key, *value);
    } else if constexpr (std::is_enum_v<T>) {
      json_[std::string(key)] = enum_name(value);
    } else if constexpr (std::is_same_v<T, WindowPattern>) {
      json_[std::string(key)] =
          value.layers.empty() ? Json(value.global_every) : Json(value.layers);
    } else {
      json_[std::string(key)] = value;
    }
  }
  void unsupported(std::string_view, std::string_view, std::string_view) {}

 private:
  Json& json_;
};

void add_own_fields(ModelConfig config, Json& json) {
  JsonFields writer(json);
  visit_fields(writer, config);
  if (config.is_latent()) json["rope_interleave"] = true;
}

Json rope_scaling(const ModelConfig& c) {
  if (c.rotation() == RopeType::kRope) return nullptr;
  Json scaling{{"rope_type", enum_name(c.rotation())},
               {"factor", c.rotary_scaling_factor.value()},
               {"original_max_position_embeddings", c.original_max_position_embeddings.value()}};
  if (c.rotation() == RopeType::kLlama3) {
    scaling["low_freq_factor"] = c.low_freq_factor.value_or(1.0);
    scaling["high_freq_factor"] = c.high_freq_factor.value_or(4.0);
    return scaling;
  }
  scaling["beta_fast"] = c.beta_fast.value_or(32.0);
  scaling["beta_slow"] = c.beta_slow.value_or(1.0);
  // Said outright, since transformers derives another factor where one of the two mscales is zero.
  scaling["attention_factor"] = rotary_frequencies(c).amplitude;
  if (c.is_latent()) {
    scaling["mscale"] = c.mscale.value_or(1.0);
    scaling["mscale_all_dim"] = c.mscale_all_dim.value_or(0.0);
  }
  return scaling;
}

std::int64_t longest_context(const ModelConfig& c, std::int64_t sequence_length) {
  if (c.max_position_embeddings) return *c.max_position_embeddings;
  if (c.rotation() == RopeType::kRope) return sequence_length;
  return static_cast<std::int64_t>(static_cast<double>(*c.original_max_position_embeddings) *
                                   *c.rotary_scaling_factor);
}

// The fields that all families share.
Json common_fields(const ModelConfig& c, std::int64_t sequence_length) {
  return {{"vocab_size", c.vocab_size.value()},
          {"hidden_size", c.hidden_size},
          {"intermediate_size", c.ffn_hidden_size},
          {"num_hidden_layers", c.num_layers},
          {"num_attention_heads", c.num_attention_heads},
          {"num_key_value_heads", c.groups()},
          {"max_position_embeddings", longest_context(c, sequence_length)},
          {"rms_norm_eps", c.norm_epsilon},
          {"rope_theta", c.rotation_base()},
          {"rope_scaling", rope_scaling(c)},
          {"hidden_act", "silu"},
          {"attention_dropout", 0.0},
          {"tie_word_embeddings", c.tie_word_embeddings},
          {"initializer_range", c.init_method_std},
          {"use_cache", true}};
}

Json window(const ModelConfig& c) {
  return c.window_size ? Json(*c.window_size) : Json(nullptr);
}

bool slides(const ModelConfig& c, std::int64_t layer) {
  return layer_attention_config(c, layer).window != 0;
}

void add_layer_types(const ModelConfig& c, Json& json) {
  Json types = Json::array();
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    types.push_back(slides(c, layer) ? "sliding_attention" : "full_attention");
  }
  json["layer_types"] = types;
}

// Readers without layer_types let all layers from max_window_layers on slide.
void add_qwen_window(const ModelConfig& c, Json& json) {
  std::int64_t first = 0;
  while (first < c.num_layers && !slides(c, first)) ++first;
  json["use_sliding_window"] = c.window_size.has_value();
  json["sliding_window"] = window(c);
  json["max_window_layers"] = first;
  add_layer_types(c, json);
}

void add_gemma2(const ModelConfig& c, Json& json) {
  const double scale = layer_attention_config(c, 0).softmax_scale;
  json["head_dim"] = c.head_dim();
  json["hidden_act"] = json["hidden_activation"] = "gelu_pytorch_tanh";
  json["query_pre_attn_scalar"] = std::llround(1.0 / (scale * scale));
  json["sliding_window"] = c.window_size.value();
  json["attn_logit_softcapping"] = c.attention_softcap ? Json(*c.attention_softcap) : Json();
  json["final_logit_softcapping"] = c.final_softcap ? Json(*c.final_softcap) : Json();
  json["attention_bias"] = false;
  add_layer_types(c, json);
}

// Its class has names of its own for everything.
void add_gpt2(const ModelConfig& c, Json& json) {
  json = {{"model_type", json["model_type"]},
          {"architectures", json["architectures"]},
          {"vocab_size", c.vocab_size.value()},
          {"n_embd", c.hidden_size},
          {"n_layer", c.num_layers},
          {"n_head", c.num_attention_heads},
          {"n_inner", c.ffn_hidden_size},
          {"n_positions", c.max_position_embeddings.value()},
          {"activation_function", c.activation == ops::Activation::kGelu ? "gelu" : "gelu_new"},
          {"layer_norm_epsilon", c.norm_epsilon},
          {"attn_pdrop", 0.0},
          {"embd_pdrop", 0.0},
          {"resid_pdrop", 0.0},
          {"tie_word_embeddings", c.tie_word_embeddings},
          {"initializer_range", c.init_method_std},
          {"use_cache", true}};
}

void add_deepseek(const ModelConfig& c, Json& json) {
  json["q_lora_rank"] = c.q_lora_rank ? Json(*c.q_lora_rank) : Json();
  json["kv_lora_rank"] = c.kv_lora_rank.value();
  json["qk_nope_head_dim"] = c.qk_head_dim.value();
  json["qk_rope_head_dim"] = c.qk_pos_emb_head_dim.value();
  json["v_head_dim"] = c.v_head_dim.value();
  json["rope_interleave"] = true;
  json["attention_bias"] = false;
  json["first_k_dense_replace"] = c.num_layers;  // no layer has experts
}

void add_special_tokens(const SpecialTokens& tokens, Json& json) {
  const auto one = [](const std::optional<std::int64_t>& token) {
    return token ? Json(*token) : Json(nullptr);
  };
  const std::vector<std::int64_t>& ends = tokens.eos_token_id;
  json["bos_token_id"] = one(tokens.bos_token_id);
  json["eos_token_id"] = ends.empty() ? Json(nullptr) : Json(ends);
  if (ends.size() == 1) json["eos_token_id"] = ends.front();
  json["pad_token_id"] = one(tokens.pad_token_id);
}

const char* torch_name(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "float64";
    case DType::kBf16:
      return "bfloat16";
    case DType::kF16:
      return "float16";
    default:
      return "float32";
  }
}

struct Architecture {
  std::string_view model_type;
  const char* name;
  void (*add_fields)(const ModelConfig&, Json&);
};
constexpr Architecture kArchitectures[] = {
    {"llama", "LlamaForCausalLM",
     [](const ModelConfig& c, Json& json) {
       json["head_dim"] = c.head_dim();
       json["attention_bias"] = json["mlp_bias"] = c.add_bias_linear;
     }},
    {"mistral", "MistralForCausalLM",
     [](const ModelConfig& c, Json& json) {
       json["head_dim"] = c.head_dim();
       json["sliding_window"] = window(c);
     }},
    {"ministral", "MinistralForCausalLM",
     [](const ModelConfig& c, Json& json) {
       json["head_dim"] = c.head_dim();
       json["sliding_window"] = window(c);
       add_layer_types(c, json);
     }},
    {"gpt2", "GPT2LMHeadModel", add_gpt2},
    {"qwen2", "Qwen2ForCausalLM",
     [](const ModelConfig& c, Json& json) {
       json["head_dim"] = c.head_dim();
       add_qwen_window(c, json);
     }},
    {"qwen3", "Qwen3ForCausalLM",
     [](const ModelConfig& c, Json& json) {
       json["head_dim"] = c.head_dim();
       json["attention_bias"] = false;
       add_qwen_window(c, json);
     }},
    {"gemma2", "Gemma2ForCausalLM", add_gemma2},
    {"deepseek_v3", "DeepseekV3ForCausalLM", add_deepseek},
};

}  // namespace

std::string huggingface_config_json(const ModelConfig& config, std::int64_t sequence_length,
                                    DType weights, const SpecialTokens& tokens) {
  const std::string_view model_type = huggingface_model_type(config);
  Json json{{"model_type", model_type}};
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.model_type != model_type) continue;
    json["architectures"] = {architecture.name};
    json.update(common_fields(config, sequence_length));
    architecture.add_fields(config, json);
  }
  if (model_type == "polyhead") add_own_fields(config, json);
  add_special_tokens(tokens, json);
  json["torch_dtype"] = torch_name(weights);
  return json.dump(2) + "\n";
}

std::string generation_config_json(const SpecialTokens& tokens) {
  Json json;
  add_special_tokens(tokens, json);
  json["use_cache"] = true;
  return json.dump(2) + "\n";
}

}  // namespace polyhead
