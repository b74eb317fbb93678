// config.json of other programs: what is understood, and what is refused by name. That it is
// understood rightly is measured in tests/golden/families_test.cpp.
#include "layers/huggingface/config_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "layers/huggingface/config_json.h"
#include "layers/model_config_fields.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using Json = nlohmann::json;

Json llama() {
  return {{"model_type", "llama"},       {"vocab_size", 131},      {"hidden_size", 42},
          {"intermediate_size", 54},     {"num_hidden_layers", 2}, {"num_attention_heads", 6},
          {"num_key_value_heads", 2},    {"head_dim", 10},         {"max_position_embeddings", 97},
          {"rms_norm_eps", 1e-3},        {"rope_theta", 1000.0},   {"hidden_act", "silu"},
          {"tie_word_embeddings", false}};
}
Json of_type(const char* model_type) {
  Json json = llama();
  json["model_type"] = model_type;
  return json;
}
Json gpt2() {
  return {{"model_type", "gpt2"}, {"vocab_size", 163}, {"n_embd", 42},
          {"n_layer", 2},         {"n_head", 6},       {"n_positions", 97},
          {"attn_pdrop", 0.0},    {"embd_pdrop", 0.0}, {"resid_pdrop", 0.0}};
}
Json deepseek() {
  Json json = of_type("deepseek_v3");
  json.erase("head_dim");
  json["num_key_value_heads"] = 6;
  json.update({{"q_lora_rank", nullptr},
               {"kv_lora_rank", 18},
               {"qk_nope_head_dim", 10},
               {"qk_rope_head_dim", 12},
               {"v_head_dim", 9},
               {"first_k_dense_replace", 2}});
  return json;
}

ModelConfig read(const Json& json) {
  return parse_huggingface_config(json.dump(), "config.json").config;
}
Json with(Json json, const Json& changes) {
  if (!changes.is_null()) json.update(changes);
  return json;
}

TEST(ConfigReader, AbsentKeysStandForTheDefaultsOfTheClass) {
  Json plain = llama();
  for (const char* key : {"head_dim", "num_key_value_heads", "rms_norm_eps", "rope_theta",
                          "hidden_act", "tie_word_embeddings"}) {
    plain.erase(key);
  }
  plain["num_attention_heads"] = 7;
  const ModelConfig config = read(plain);
  EXPECT_EQ(config.groups(), 7);
  EXPECT_EQ(config.head_dim(), 6);
  EXPECT_EQ(config.norm_epsilon, 1e-6);
  EXPECT_EQ(config.rotation_base(), 10000.0);
  EXPECT_FALSE(config.tie_word_embeddings);
  EXPECT_TRUE(read(with(gpt2(), {})).tie_word_embeddings);
  EXPECT_EQ(read(gpt2()).ffn_hidden_size, 168);
  EXPECT_EQ(read(with(gpt2(), {{"n_inner", 70}})).ffn_hidden_size, 70);
  EXPECT_EQ(read(of_type("mistral")).window_size, 4096) << "null is another thing";
  EXPECT_FALSE(read(with(of_type("mistral"), {{"sliding_window", nullptr}})).window_size);
}

std::vector<std::int64_t> windows(const ModelConfig& config) {
  std::vector<std::int64_t> windows;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    windows.push_back(layer_attention_config(config, layer).window);
  }
  return windows;
}

TEST(ConfigReader, Windows) {
  using Windows = std::vector<std::int64_t>;
  const Json qwen = with(of_type("qwen2"), {{"num_hidden_layers", 3}, {"sliding_window", 9}});
  const auto changed = [&](const Json& changes) { return windows(read(with(qwen, changes))); };
  EXPECT_EQ(changed({}), Windows({0, 0, 0})) << "use_sliding_window is false by default";
  EXPECT_EQ(changed({{"use_sliding_window", true}}), Windows({0, 0, 0})) << "from layer 28 on";
  EXPECT_EQ(changed({{"use_sliding_window", true}, {"max_window_layers", 1}}), Windows({0, 9, 9}));
  const Json types = {"sliding_attention", "full_attention", "sliding_attention"};
  EXPECT_EQ(changed({{"use_sliding_window", true}, {"layer_types", types}}), Windows({9, 0, 9}));
  EXPECT_THAT(error_of([&] {
                changed({{"layer_types", types}});
              }),
              HasSubstr("use_sliding_window"));
  const Json gemma = with(of_type("gemma2"), {{"num_hidden_layers", 3}, {"sliding_window", 5}});
  EXPECT_EQ(windows(read(gemma)), Windows({5, 0, 5}));
  EXPECT_EQ(windows(read(with(with(of_type("ministral"), {{"num_hidden_layers", 3}}),
                              {{"sliding_window", 4}, {"layer_types", types}}))),
            Windows({4, 0, 4}));
}

TEST(ConfigReader, BothSpellingsOfTheRotation) {
  const Json scaling = {{"factor", 6.0},
                        {"low_freq_factor", 1.0},
                        {"high_freq_factor", 3.0},
                        {"original_max_position_embeddings", 32}};
  const ModelConfig old =
      read(with(llama(), {{"rope_scaling", with(scaling, {{"type", "llama3"}})}}));
  EXPECT_EQ(old.rope_type, RopeType::kLlama3);
  EXPECT_EQ(old.rotation_base(), 1000.0);
  Json json = llama();
  json.erase("rope_theta");
  json["rope_parameters"] = with(scaling, {{"rope_type", "llama3"}, {"rope_theta", 50.0}});
  const ModelConfig young = read(json);
  EXPECT_EQ(young.rotation_base(), 50.0);
  EXPECT_EQ(young.high_freq_factor, 3.0);
  EXPECT_THAT(error_of([&] { read(with(json, {{"rope_theta", 60.0}})); }), HasSubstr("rope_theta"));
  EXPECT_THAT(error_of([&] {
                read(with(json, {{"rope_scaling", scaling}}));
              }),
              HasSubstr("rope_scaling"));
}

TEST(ConfigReader, AmplitudeOfYarn) {
  const auto amplitude = [](const Json& changes) {
    const Json yarn =
        with({{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 32}},
             changes);
    return rotary_frequencies(read(with(deepseek(), {{"rope_scaling", yarn}}))).amplitude;
  };
  const double alone = 0.1 * std::log(4.0) + 1, half = 0.05 * std::log(4.0) + 1;
  EXPECT_DOUBLE_EQ(amplitude({}), alone);
  EXPECT_DOUBLE_EQ(amplitude({{"mscale", 0.5}, {"mscale_all_dim", 1.0}}), half / alone);
  EXPECT_DOUBLE_EQ(amplitude({{"mscale", 0.5}}), alone) << "one alone is not read";
  EXPECT_DOUBLE_EQ(amplitude({{"mscale_all_dim", 0.5}}), alone);
  EXPECT_DOUBLE_EQ(amplitude({{"attention_factor", 1.25}, {"mscale_all_dim", 0.5}}), 1.25);
  EXPECT_THAT(error_of([&] {
                amplitude({{"attention_factor", 0.5}});
              }),
              HasSubstr("rope_scaling.attention_factor: got 0.5"));
}

struct Refusal {
  std::string name;
  Json json;
  std::string key, fix;
};

class Refused : public ::testing::TestWithParam<Refusal> {};

TEST_P(Refused, ByName) {
  const std::string error = error_of([] { read(GetParam().json); });
  EXPECT_THAT(error, HasSubstr("config.json: " + GetParam().key));
  EXPECT_THAT(error, HasSubstr(GetParam().fix));
}

const std::vector<Refusal>& refusals() {
  static const std::vector<Refusal> kRefusals = {
      {"NoModelType", Json::object(), "model_type is missing", "llama, mistral"},
      {"ModelType", of_type("mamba"), "model_type: got \"mamba\"", "deepseek_v3"},
      {"Size", with(llama(), {{"hidden_size", nullptr}}), "hidden_size is missing", ""},
      {"Type", with(llama(), {{"hidden_size", "42"}}), "hidden_size: got \"42\"", "an integer"},
      {"Activation", with(llama(), {{"hidden_act", "relu"}}), "hidden_act: got \"relu\"", "silu"},
      {"Gpt2Activation", with(gpt2(), {{"activation_function", "relu"}}), "activation_function",
       "gelu_new"},
      {"Gpt2Scale", with(gpt2(), {{"scale_attn_weights", false}}), "scale_attn_weights", "true"},
      {"Gpt2Depth", with(gpt2(), {{"scale_attn_by_inverse_layer_idx", true}}),
       "scale_attn_by_inverse_layer_idx", "depth"},
      {"RopeType", with(llama(), {{"rope_scaling", {{"type", "linear"}, {"factor", 2.0}}}}),
       "rope_scaling.type: got \"linear\"", "llama3"},
      {"RopeKey",
       with(llama(), {{"rope_parameters", {{"rope_type", "default"}, {"short_factor", {1.0}}}}}),
       "rope_parameters.short_factor", "delete it"},
      {"PartialRotation", with(llama(), {{"partial_rotary_factor", 0.5}}), "partial_rotary_factor",
       "whole heads"},
      {"HalfBiased", with(llama(), {{"attention_bias", true}}), "mlp_bias", "must be equal"},
      {"QwenBias", with(of_type("qwen3"), {{"attention_bias", true}}), "attention_bias: got true",
       "without"},
      {"Experts", with(deepseek(), {{"first_k_dense_replace", 1}}), "first_k_dense_replace: got 1",
       "experts"},
      {"DefaultExperts",
       with(deepseek(), {{"model_type", "deepseek_v2"}, {"first_k_dense_replace", nullptr}}),
       "first_k_dense_replace", "experts"},
      {"Groups", with(deepseek(), {{"num_key_value_heads", 2}}), "num_key_value_heads", ""},
      {"LayerTypes",
       with(of_type("gemma2"), {{"layer_types", {"sliding_attention", "chunked_attention"}}}),
       "layer_types", "full_attention"},
      {"Quantized", with(llama(), {{"quantization_config", {{"bits", 4}}}}), "quantization_config",
       "bf16"},
      {"Encoder", with(llama(), {{"is_encoder_decoder", true}}), "is_encoder_decoder", "decoders"},
      {"Unknown", with(llama(), {{"residual_multiplier", 0.22}}), "residual_multiplier: got 0.22",
       "delete it"},
      {"Rule", with(llama(), {{"num_key_value_heads", 4}}), "no such model", "num_query_groups"},
      {"Layers", with(llama(), {{"num_hidden_layers", 1000000000000}}), "num_hidden_layers",
       "4096"},
  };
  return kRefusals;
}

INSTANTIATE_TEST_SUITE_P(Keys, Refused, ::testing::ValuesIn(refusals()),
                         [](const auto& test) { return test.param.name; });

TEST(ConfigReader, HarmlessKeysAndNullsAreReadPast) {
  EXPECT_EQ(error_of([] {
              read(with(llama(), {{"bos_token_id", 1},
                                  {"torch_dtype", "bfloat16"},
                                  {"_name_or_path", "x"},
                                  {"residual_multiplier", nullptr},
                                  {"pretraining_tp", 2}}));
              read(with(deepseek(), {{"n_routed_experts", 256}, {"scoring_func", "sigmoid"}}));
            }),
            "no error");
}

// Everything that decides what a model computes.
std::string described(ModelConfig config) {
  std::string text;
  config.num_query_groups = config.is_latent() ? std::nullopt : std::optional(config.groups());
  if (!config.is_latent()) config.kv_channels = config.head_dim();
  const auto add = [&](const auto&... values) { ((text += fmt::format("{} ", values)), ...); };
  add(config.num_layers, config.hidden_size, config.ffn_hidden_size, config.num_attention_heads,
      config.groups(), config.query_key_dim(), config.value_dim(), config.vocab_size.value(),
      config.q_lora_rank.value_or(0), config.kv_lora_rank.value_or(0), config.qk_norm,
      enum_name(config.position_embedding), config.rotates() ? config.rotated_share() : 0,
      enum_name(config.normalization), config.norm_epsilon, config.latent_norm_epsilon(),
      enum_name(config.norm_weight), config.post_norms, enum_name(config.activation),
      config.add_bias_linear, config.add_qkv_bias, config.tie_word_embeddings,
      config.scale_embeddings, config.normalizes_latents(), config.segments(),
      config.attention_softcap.value_or(0), config.final_softcap.value_or(0));
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const LayerAttentionConfig attention = layer_attention_config(config, layer);
    add(attention.window, static_cast<float>(attention.softmax_scale));
  }
  if (config.rotates()) {
    const RotaryFrequencies rotary = rotary_frequencies(config);
    add(static_cast<float>(rotary.amplitude));
    for (const double frequency : rotary.inverse_frequencies) add(static_cast<float>(frequency));
  }
  return text;
}

// It does nothing but in training.
TEST(ConfigReader, TellsWhichKeyAsksForDropout) {
  const auto dropout = [](const Json& config) {
    return parse_huggingface_config(config.dump(), "config.json").dropout;
  };
  EXPECT_EQ(dropout(llama()), "");
  EXPECT_EQ(dropout(gpt2()), "");
  EXPECT_EQ(dropout(with(llama(), {{"attention_dropout", 0.1}})),
            "config.json: attention_dropout: got 0.1; dropout is not computed in training; set it "
            "to 0.0");
  EXPECT_THAT(dropout(with(gpt2(), {{"resid_pdrop", 0.1}})), HasSubstr("resid_pdrop: got 0.1"));
  EXPECT_THAT(dropout(with(gpt2(), {{"embd_pdrop", nullptr}})), HasSubstr("embd_pdrop: got null"));
}

class WrittenModel : public ::testing::TestWithParam<testing::Variant> {};

TEST_P(WrittenModel, IsReadBack) {
  const ModelConfig& config = GetParam().config;
  const std::string text = huggingface_config_json(config, 64);
  const HuggingFaceModel model = parse_huggingface_config(text, "config.json");
  EXPECT_EQ(model.model_type, huggingface_model_type(config));
  EXPECT_EQ(described(model.config), described(config)) << text;
}

INSTANTIATE_TEST_SUITE_P(Variants, WrittenModel, ::testing::ValuesIn(testing::all_variants()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace polyhead
