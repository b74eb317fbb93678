#include "layers/huggingface/config_json.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

namespace polyhead {
namespace {

ModelConfig llama() {
  ModelConfig config;
  config.num_layers = 3;
  config.hidden_size = 48;
  config.ffn_hidden_size = 100;
  config.num_attention_heads = 6;
  config.num_query_groups = 2;
  config.vocab_size = 257;
  return config;
}

ModelConfig gemma2() {
  ModelConfig config = llama();
  config.norm_weight = ops::NormWeight::kOnePlus;
  config.post_norms = config.scale_embeddings = config.tie_word_embeddings = true;
  config.activation = ops::Activation::kGeglu;
  config.window_size = 16;
  config.window_pattern = WindowPattern{2, {}};
  config.attention_softcap = 50.0;
  config.final_softcap = 30.0;
  config.softmax_scale = 1.0 / 12.0;
  return config;
}

ModelConfig gpt2() {
  ModelConfig config = llama();
  config.num_query_groups.reset();
  config.position_embedding = PositionEmbedding::kLearned;
  config.max_position_embeddings = 64;
  config.normalization = Normalization::kLayerNorm;
  config.activation = ops::Activation::kGeluTanh;
  config.add_bias_linear = config.tie_word_embeddings = true;
  return config;
}

ModelConfig deepseek() {
  ModelConfig config = llama();
  config.num_query_groups.reset();
  config.kv_lora_rank = 20;
  config.qk_head_dim = 16;
  config.qk_pos_emb_head_dim = 8;
  config.v_head_dim = 12;
  return config;
}

nlohmann::json json_of(const ModelConfig& config) {
  return nlohmann::json::parse(huggingface_config_json(config, 64));
}

struct Case {
  std::string name;
  std::function<ModelConfig()> base;
  std::function<void(ModelConfig&)> change;
  std::string model_type;
};

const std::vector<Case>& cases() {
  static const std::vector<Case> kCases = {
      {"Llama", llama, [](ModelConfig&) {}, "llama"},
      {"Biases", llama, [](ModelConfig& c) { c.add_bias_linear = true; }, "llama"},
      {"Tied", llama, [](ModelConfig& c) { c.tie_word_embeddings = true; }, "llama"},
      {"SameScale", llama, [](ModelConfig& c) { c.softmax_scale = 1 / std::sqrt(8.0); }, "llama"},
      {"Window", llama, [](ModelConfig& c) { c.window_size = 9; }, "mistral"},
      {"QkvBias", llama, [](ModelConfig& c) { c.add_qkv_bias = true; }, "qwen2"},
      {"QkvBiasAndWindow", llama,
       [](ModelConfig& c) {
         c.add_qkv_bias = true;
         c.window_size = 9;
       },
       "qwen2"},
      {"QkNorm", llama, [](ModelConfig& c) { c.qk_norm = true; }, "qwen3"},
      {"Gemma2", gemma2, [](ModelConfig&) {}, "gemma2"},
      {"Latent", deepseek, [](ModelConfig&) {}, "deepseek_v3"},
      {"LatentWithQueries", deepseek, [](ModelConfig& c) { c.q_lora_rank = 10; }, "deepseek_v3"},
      // One step away from a class is no class.
      {"BiasesAndWindow", llama,
       [](ModelConfig& c) {
         c.add_bias_linear = true;
         c.window_size = 9;
       },
       "polyhead"},
      {"QkNormAndBias", llama, [](ModelConfig& c) { c.qk_norm = c.add_qkv_bias = true; },
       "polyhead"},
      {"Alternating", llama,
       [](ModelConfig& c) {
         c.window_size = 9;
         c.window_pattern = WindowPattern{2, {}};
       },
       "ministral"},
      {"SomeWindowsAndBias", llama,
       [](ModelConfig& c) {
         c.add_qkv_bias = true;
         c.window_size = 9;
         c.window_pattern = WindowPattern{0, {0, 1, 0}};
       },
       "qwen2"},
      {"UnevenHeads", llama,
       [](ModelConfig& c) {
         c.kv_channels = 8;
         c.hidden_size = 50;
       },
       "mistral"},
      {"UnevenHeadsAndBiases", llama,
       [](ModelConfig& c) {
         c.kv_channels = 8;
         c.hidden_size = 50;
         c.add_bias_linear = true;
       },
       "polyhead"},
      {"Gpt2", gpt2, [](ModelConfig&) {}, "gpt2"},
      {"Gpt2Untied", gpt2, [](ModelConfig& c) { c.tie_word_embeddings = false; }, "gpt2"},
      {"Gpt2Gelu", gpt2, [](ModelConfig& c) { c.activation = ops::Activation::kGelu; }, "gpt2"},
      {"Gpt2Groups", gpt2, [](ModelConfig& c) { c.num_query_groups = 2; }, "polyhead"},
      {"Gpt2WideHeads", gpt2, [](ModelConfig& c) { c.kv_channels = 10; }, "polyhead"},
      {"Gpt2Window", gpt2, [](ModelConfig& c) { c.window_size = 9; }, "polyhead"},
      {"Gpt2RmsNorm", gpt2, [](ModelConfig& c) { c.normalization = Normalization::kRmsNorm; },
       "polyhead"},
      {"Gpt2WithoutBiases", gpt2, [](ModelConfig& c) { c.add_bias_linear = false; }, "polyhead"},
      {"Gpt2Swiglu", gpt2, [](ModelConfig& c) { c.activation = ops::Activation::kSwiglu; },
       "polyhead"},
      {"GemmaOddScale", gemma2, [](ModelConfig& c) { c.softmax_scale = 0.1234; }, "polyhead"},
      {"OtherScale", llama, [](ModelConfig& c) { c.softmax_scale = 0.3; }, "polyhead"},
      {"SoftCap", llama, [](ModelConfig& c) { c.attention_softcap = 50; }, "polyhead"},
      {"Alibi", llama, [](ModelConfig& c) { c.position_embedding = PositionEmbedding::kAlibi; },
       "polyhead"},
      {"PartialRotation", llama, [](ModelConfig& c) { c.rotary_percent = 0.5; }, "polyhead"},
      {"LayerNorm", llama, [](ModelConfig& c) { c.normalization = Normalization::kLayerNorm; },
       "polyhead"},
      {"Gelu", llama, [](ModelConfig& c) { c.activation = ops::Activation::kGelu; }, "polyhead"},
      {"GemmaUntied", gemma2, [](ModelConfig& c) { c.tie_word_embeddings = false; }, "polyhead"},
      {"GemmaOddWindows", gemma2,
       [](ModelConfig& c) {
         c.window_pattern = WindowPattern{0, {0, 1, 0}};
       },
       "polyhead"},
      {"LatentWindow", deepseek, [](ModelConfig& c) { c.window_size = 9; }, "polyhead"},
      {"LatentWithoutNorm", deepseek, [](ModelConfig& c) { c.latent_norm = false; }, "polyhead"},
      {"LatentBias", deepseek, [](ModelConfig& c) { c.add_qkv_bias = true; }, "polyhead"},
      {"LatentSegments", deepseek, [](ModelConfig& c) { c.rotary_segments = 2; }, "polyhead"},
      {"LatentEpsilon", deepseek, [](ModelConfig& c) { c.mla_norm_epsilon = 1e-5; }, "polyhead"},
  };
  return kCases;
}

class ModelType : public ::testing::TestWithParam<Case> {};

TEST_P(ModelType, IsExactOrPolyhead) {
  ModelConfig config = GetParam().base();
  GetParam().change(config);
  EXPECT_EQ(huggingface_model_type(config), GetParam().model_type);
  EXPECT_EQ(json_of(config)["model_type"], GetParam().model_type);
}

INSTANTIATE_TEST_SUITE_P(Families, ModelType, ::testing::ValuesIn(cases()),
                         [](const auto& test) { return test.param.name; });

TEST(ConfigJson, LlamaFields) {
  ModelConfig config = llama();
  config.add_bias_linear = true;
  config.norm_epsilon = 1e-6;
  config.rotary_base = 5e5;
  const nlohmann::json json = json_of(config);
  EXPECT_EQ(json["architectures"], nlohmann::json({"LlamaForCausalLM"}));
  EXPECT_EQ(json["vocab_size"], 257);
  EXPECT_EQ(json["hidden_size"], 48);
  EXPECT_EQ(json["intermediate_size"], 100);
  EXPECT_EQ(json["num_hidden_layers"], 3);
  EXPECT_EQ(json["num_attention_heads"], 6);
  EXPECT_EQ(json["num_key_value_heads"], 2);
  EXPECT_EQ(json["head_dim"], 8);
  EXPECT_EQ(json["max_position_embeddings"], 64);
  EXPECT_EQ(json["rms_norm_eps"], 1e-6);
  EXPECT_EQ(json["rope_theta"], 5e5);
  EXPECT_EQ(json["attention_bias"], true);
  EXPECT_EQ(json["mlp_bias"], true);
  EXPECT_EQ(json["hidden_act"], "silu");
  EXPECT_EQ(json["tie_word_embeddings"], false);
  EXPECT_TRUE(json["rope_scaling"].is_null());
}

TEST(ConfigJson, WindowsOnSomeLayers) {
  ModelConfig config = llama();
  config.add_qkv_bias = true;
  config.window_size = 9;
  config.window_pattern = WindowPattern{0, {0, 1, 1}};
  const nlohmann::json json = json_of(config);
  EXPECT_EQ(json["max_window_layers"], 1);
  EXPECT_EQ(json["use_sliding_window"], true);
  EXPECT_EQ(json["layer_types"],
            nlohmann::json({"full_attention", "sliding_attention", "sliding_attention"}));
}

TEST(ConfigJson, Gpt2Fields) {
  const nlohmann::json json = json_of(gpt2());
  EXPECT_EQ(json["architectures"], nlohmann::json({"GPT2LMHeadModel"}));
  EXPECT_EQ(json["n_embd"], 48);
  EXPECT_EQ(json["n_inner"], 100);
  EXPECT_EQ(json["n_positions"], 64);
  EXPECT_EQ(json["activation_function"], "gelu_new");
  EXPECT_EQ(json["resid_pdrop"], 0.0) << "its default is not 0";
  EXPECT_FALSE(json.contains("hidden_size"));
}

TEST(ConfigJson, TypeOfTheWeights) {
  const auto dtype = [](DType weights) {
    return nlohmann::json::parse(huggingface_config_json(llama(), 64, weights))["torch_dtype"];
  };
  EXPECT_EQ(dtype(DType::kF32), "float32");
  EXPECT_EQ(dtype(DType::kBf16), "bfloat16");
}

// Both files name them alike; Polyhead's own type as all others.
TEST(ConfigJson, SpecialTokens) {
  ModelConfig alibi = llama();
  alibi.position_embedding = PositionEmbedding::kAlibi;
  const auto texts = [&](const SpecialTokens& tokens) {
    std::vector<nlohmann::json> files{nlohmann::json::parse(generation_config_json(tokens))};
    for (const ModelConfig& config : {llama(), gpt2(), gemma2(), deepseek(), alibi}) {
      files.push_back(
          nlohmann::json::parse(huggingface_config_json(config, 64, DType::kF32, tokens)));
    }
    return files;
  };
  for (const nlohmann::json& json : texts({})) {
    for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"}) {
      EXPECT_TRUE(json.at(key).is_null()) << key << " of " << json;
    }
  }
  for (const nlohmann::json& json : texts({.bos_token_id = 5, .eos_token_id = {7}})) {
    EXPECT_EQ(json["bos_token_id"], 5);
    EXPECT_EQ(json["eos_token_id"], 7) << "a number, as older readers expect";
    EXPECT_TRUE(json.at("pad_token_id").is_null());
  }
  for (const nlohmann::json& json : texts({.eos_token_id = {8, 7, 256}, .pad_token_id = 0})) {
    EXPECT_EQ(json["eos_token_id"], nlohmann::json({8, 7, 256}));
    EXPECT_EQ(json["pad_token_id"], 0);
  }
}

TEST(ConfigJson, RotaryScaling) {
  ModelConfig config = llama();
  config.rope_type = RopeType::kLlama3;
  config.rotary_scaling_factor = 8.0;
  config.original_max_position_embeddings = 32;
  EXPECT_EQ(json_of(config)["rope_scaling"],
            (nlohmann::json{{"rope_type", "llama3"},
                            {"factor", 8.0},
                            {"original_max_position_embeddings", 32},
                            {"low_freq_factor", 1.0},
                            {"high_freq_factor", 4.0}}));
  EXPECT_EQ(json_of(config)["max_position_embeddings"], 256);

  ModelConfig latent = deepseek();
  latent.rope_type = RopeType::kYarn;
  latent.rotary_scaling_factor = 40.0;
  latent.original_max_position_embeddings = 32;
  latent.mscale = latent.mscale_all_dim = 0.707;
  const nlohmann::json yarn = json_of(latent)["rope_scaling"];
  EXPECT_EQ(yarn["rope_type"], "yarn");
  EXPECT_EQ(yarn["attention_factor"], 1.0);
  EXPECT_EQ(yarn["mscale_all_dim"], 0.707);
  EXPECT_EQ(yarn["beta_fast"], 32.0);
}

TEST(ConfigJson, GemmaAndDeepseekFields) {
  const nlohmann::json gemma = json_of(gemma2());
  EXPECT_EQ(gemma["query_pre_attn_scalar"], 144);
  EXPECT_TRUE(gemma["query_pre_attn_scalar"].is_number_integer());
  EXPECT_EQ(gemma["sliding_window"], 16);
  EXPECT_EQ(gemma["attn_logit_softcapping"], 50.0);
  EXPECT_EQ(gemma["final_logit_softcapping"], 30.0);
  EXPECT_EQ(gemma["hidden_activation"], "gelu_pytorch_tanh");

  const nlohmann::json deep = json_of(deepseek());
  EXPECT_TRUE(deep["q_lora_rank"].is_null());
  EXPECT_EQ(deep["kv_lora_rank"], 20);
  EXPECT_EQ(deep["qk_nope_head_dim"], 16);
  EXPECT_EQ(deep["qk_rope_head_dim"], 8);
  EXPECT_EQ(deep["v_head_dim"], 12);
  EXPECT_EQ(deep["rope_interleave"], true);
  EXPECT_EQ(deep["first_k_dense_replace"], 3);
  EXPECT_EQ(deep["num_key_value_heads"], 6);
}

TEST(ConfigJson, PolyheadKeepsItsOwnKeys) {
  ModelConfig config = llama();
  config.position_embedding = PositionEmbedding::kAlibi;
  config.window_size = 9;
  config.window_pattern = WindowPattern{0, {1, 0, 1}};
  const nlohmann::json json = json_of(config);
  EXPECT_EQ(json["position_embedding"], "alibi");
  EXPECT_EQ(json["num_query_groups"], 2);
  EXPECT_EQ(json["window_pattern"], nlohmann::json({1, 0, 1}));
  EXPECT_EQ(json["activation"], "swiglu");
  EXPECT_FALSE(json.contains("kv_lora_rank")) << "absent keys stay absent";
  EXPECT_FALSE(json.contains("num_key_value_heads"));
}

}  // namespace
}  // namespace polyhead
