#include "layers/model_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace polyhead {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;

ModelConfig small_model() {
  ModelConfig config;
  config.num_layers = 6;
  config.hidden_size = 96;
  config.ffn_hidden_size = 160;
  config.num_attention_heads = 12;
  config.vocab_size = 257;
  return config;
}

ModelConfig latent_model() {
  ModelConfig config = small_model();
  config.kv_lora_rank = 20;
  config.qk_head_dim = 6;
  config.qk_pos_emb_head_dim = 4;
  config.v_head_dim = 5;
  return config;
}

// DeepSeek-V3's rotary keys.
ModelConfig deepseek_v3() {
  ModelConfig config = latent_model();
  config.qk_head_dim = 128;
  config.qk_pos_emb_head_dim = 64;
  config.v_head_dim = 128;
  config.rope_type = RopeType::kYarn;
  config.rotary_scaling_factor = 40;
  config.original_max_position_embeddings = 4096;
  config.mscale = config.mscale_all_dim = 1.0;
  return config;
}

// The one violation of a configuration must blame `key` and say all of `parts`.
template <class... Parts>
void expect_violation(const ModelConfig& config, const std::string& key, Parts... parts) {
  EXPECT_THAT(model_rule_violations(config, 1),
              ElementsAre(AllOf(Field(&RuleViolation::key, key),
                                Field(&RuleViolation::message, AllOf(HasSubstr(parts)...)))));
}

TEST(AttentionVariant, FollowsFromTheKeys) {
  ModelConfig config = small_model();
  EXPECT_EQ(attention_variant(config), "MHA");
  config.num_query_groups = 12;
  EXPECT_EQ(attention_variant(config), "MHA");
  config.num_query_groups = 4;
  EXPECT_EQ(attention_variant(config), "GQA");
  config.num_query_groups = 1;
  EXPECT_EQ(attention_variant(config), "MQA");
  config.window_size = 7;
  EXPECT_EQ(attention_variant(config), "MQA+SWA");
  EXPECT_EQ(attention_variant(latent_model()), "MLA");
}

TEST(LayerAttentionConfig, WindowsFollowThePattern) {
  const auto windows = [](const ModelConfig& config) {
    std::vector<std::int64_t> result;
    for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
      result.push_back(layer_attention_config(config, layer).window);
    }
    return result;
  };
  ModelConfig config = small_model();
  EXPECT_THAT(windows(config), ElementsAre(0, 0, 0, 0, 0, 0));
  config.window_size = 5;
  EXPECT_THAT(windows(config), ElementsAre(5, 5, 5, 5, 5, 5));
  config.window_pattern = WindowPattern{.global_every = 2, .layers = {}};
  EXPECT_THAT(windows(config), ElementsAre(5, 0, 5, 0, 5, 0));
  config.window_pattern = WindowPattern{.global_every = 0, .layers = {0, 0, 1, 1, 0, 1}};
  EXPECT_THAT(windows(config), ElementsAre(0, 0, 5, 5, 0, 5));
}

TEST(LayerAttentionConfig, ScalesTheLogits) {
  ModelConfig config = small_model();
  EXPECT_DOUBLE_EQ(layer_attention_config(config, 0).softmax_scale, 1 / std::sqrt(8.0));
  config.kv_channels = 10;
  EXPECT_DOUBLE_EQ(layer_attention_config(config, 0).softmax_scale, 1 / std::sqrt(10.0));
  config.softmax_scale = 0.25;
  EXPECT_EQ(layer_attention_config(config, 0).softmax_scale, 0.25);
  EXPECT_NEAR(layer_attention_config(deepseek_v3(), 0).softmax_scale, 0.1352337788608801, 1e-15);
  ModelConfig v2 = deepseek_v3();
  v2.mscale = v2.mscale_all_dim = 0.707;
  EXPECT_NEAR(layer_attention_config(v2, 0).softmax_scale, 0.11472138679292612, 1e-15);
}

TEST(RotaryFrequencies, PlainAndPartial) {
  ModelConfig config = small_model();
  EXPECT_EQ(rotary_dim(config), 8);
  const RotaryFrequencies plain = rotary_frequencies(config);
  ASSERT_EQ(plain.inverse_frequencies.size(), 4u);
  EXPECT_EQ(plain.amplitude, 1.0);
  EXPECT_NEAR(plain.inverse_frequencies[3], std::pow(10000.0, -0.75), 1e-15);
  config.rotary_percent = 0.5;
  const RotaryFrequencies partial = rotary_frequencies(config);
  ASSERT_EQ(partial.inverse_frequencies.size(), 2u);
  EXPECT_NEAR(partial.inverse_frequencies[1], 0.01, 1e-15);
}

TEST(RotaryFrequencies, SegmentsRepeatThoseOfAShorterKey) {
  for (const RopeType type : {RopeType::kRope, RopeType::kYarn, RopeType::kLlama3}) {
    ModelConfig config = deepseek_v3();
    config.rope_type = type;
    const RotaryFrequencies one = rotary_frequencies(config);
    config.qk_pos_emb_head_dim = 3 * 64;
    config.rotary_segments = 3;
    const RotaryFrequencies three = rotary_frequencies(config);
    EXPECT_EQ(three.amplitude, one.amplitude);
    ASSERT_EQ(three.inverse_frequencies.size(), 96u);
    for (std::size_t pair = 0; pair < 96; ++pair) {
      EXPECT_EQ(three.inverse_frequencies[pair], one.inverse_frequencies[pair % 32]) << pair;
    }
  }
}

TEST(RotaryFrequencies, YarnOfDeepseekV3) {
  const RotaryFrequencies rotary = rotary_frequencies(deepseek_v3());
  const auto& inverse = rotary.inverse_frequencies;
  ASSERT_EQ(inverse.size(), 32u);
  EXPECT_EQ(rotary.amplitude, 1.0);
  EXPECT_NEAR(yarn_mscale(40, 1.0), 1.3688879454113936, 1e-15);
  EXPECT_NEAR(yarn_mscale(40, 0.707), 1.2608037774058554, 1e-15);
  EXPECT_EQ(yarn_mscale(0.5, 1.0), 1.0);
  EXPECT_EQ(inverse[0], 1.0);
  EXPECT_NEAR(inverse[9], 0.07498942093324558, 1e-16);
  EXPECT_NEAR(inverse[10], 0.05623413251903491, 1e-16);
  EXPECT_NEAR(inverse[11], 0.03900692656714386, 1e-16);
  EXPECT_NEAR(inverse[16], 0.0055, 1e-17);
  EXPECT_NEAR(inverse[22], 1.778279410038922e-4, 1e-18);
  EXPECT_NEAR(inverse[23], 3.33380358040831e-05, 1e-19);
  EXPECT_NEAR(inverse[31], 3.3338035804083097e-06, 1e-20);
}

TEST(RotaryFrequencies, YarnOfQwen) {
  ModelConfig config = small_model();
  config.kv_channels = 128;
  config.rotary_base = 1e6;
  config.rope_type = RopeType::kYarn;
  config.rotary_scaling_factor = 4;
  config.original_max_position_embeddings = 32768;
  const RotaryFrequencies rotary = rotary_frequencies(config);
  EXPECT_NEAR(rotary.amplitude, 1.138629436111989, 1e-15);
  EXPECT_DOUBLE_EQ(layer_attention_config(config, 0).softmax_scale, 1 / std::sqrt(128.0));
  const auto unscaled = [](int j) { return std::pow(1e6, -j / 64.0); };
  EXPECT_NEAR(rotary.inverse_frequencies[23] / unscaled(23), 1.0, 1e-14);
  EXPECT_LT(rotary.inverse_frequencies[24] / unscaled(24), 1.0 - 1e-3);
  EXPECT_GT(rotary.inverse_frequencies[39] / unscaled(39), 0.25 + 1e-3);
  EXPECT_NEAR(rotary.inverse_frequencies[40] / unscaled(40), 0.25, 1e-14);
}

TEST(RotaryFrequencies, Llama3KeepsFastAndSlowsSlowDimensions) {
  ModelConfig config = small_model();
  config.kv_channels = 128;
  config.rotary_base = 500000;
  config.rope_type = RopeType::kLlama3;
  config.rotary_scaling_factor = 8;
  config.original_max_position_embeddings = 8192;
  const RotaryFrequencies rotary = rotary_frequencies(config);
  EXPECT_EQ(rotary.amplitude, 1.0);
  const double pi = std::acos(-1.0);
  for (int j = 0; j < 64; ++j) {
    const double inverse = std::pow(500000.0, -j / 64.0);
    const double wavelength = 2 * pi / inverse;
    double expected = inverse;
    if (wavelength > 8192.0) {
      expected = inverse / 8;
    } else if (wavelength > 2048.0) {
      const double smooth = (8192.0 / wavelength - 1) / 3;
      expected = (1 - smooth) * inverse / 8 + smooth * inverse;
    }
    EXPECT_NEAR(rotary.inverse_frequencies[static_cast<std::size_t>(j)] / expected, 1.0, 1e-13);
  }
}

TEST(ModelRules, ValidModelsBreakNone) {
  EXPECT_THAT(model_rule_violations(small_model(), 4), IsEmpty());
  EXPECT_THAT(model_rule_violations(latent_model(), 4), IsEmpty());
  EXPECT_THAT(model_rule_violations(deepseek_v3(), 2), IsEmpty());
}

TEST(ModelRules, AllBrokenOnesAreReported) {
  ModelConfig config = small_model();
  config.num_query_groups = 5;
  config.q_lora_rank = 3;
  config.beta_slow = 2.0;
  EXPECT_THAT(model_rule_violations(config, 1),
              IsSupersetOf({Field(&RuleViolation::key, "num_query_groups"),
                            Field(&RuleViolation::key, "q_lora_rank"),
                            Field(&RuleViolation::key, "beta_slow")}));
}

TEST(ModelRules, Sizes) {
  const auto expect_range = [](auto member, std::int64_t value, const std::string& key) {
    ModelConfig config = latent_model();
    config.*member = value;
    expect_violation(config, key, "got " + std::to_string(value), "must lie in");
  };
  expect_range(&ModelConfig::num_layers, 0, "num_layers");
  expect_range(&ModelConfig::hidden_size, -8, "hidden_size");
  expect_range(&ModelConfig::ffn_hidden_size, std::int64_t{1} << 40, "ffn_hidden_size");
  expect_range(&ModelConfig::num_attention_heads, 0, "num_attention_heads");
  expect_range(&ModelConfig::num_query_groups, 0, "num_query_groups");
  expect_range(&ModelConfig::kv_channels, 0, "kv_channels");
  expect_range(&ModelConfig::vocab_size, 1, "vocab_size");
  expect_range(&ModelConfig::q_lora_rank, 0, "q_lora_rank");
  expect_range(&ModelConfig::kv_lora_rank, 0, "kv_lora_rank");
  expect_range(&ModelConfig::qk_head_dim, -1, "qk_head_dim");
  expect_range(&ModelConfig::qk_pos_emb_head_dim, 1, "qk_pos_emb_head_dim");
  expect_range(&ModelConfig::v_head_dim, 0, "v_head_dim");
  expect_range(&ModelConfig::window_size, 0, "window_size");
  expect_range(&ModelConfig::max_position_embeddings, 0, "max_position_embeddings");
  expect_range(&ModelConfig::original_max_position_embeddings, 0,
               "original_max_position_embeddings");
}

TEST(ModelRules, Numbers) {
  const auto expect_refused = [](auto member, double value, const std::string& key) {
    ModelConfig config = small_model();
    config.*member = value;
    expect_violation(config, key, "must");
  };
  expect_refused(&ModelConfig::softmax_scale, 0.0, "softmax_scale");
  expect_refused(&ModelConfig::attention_softcap, -1.0, "attention_softcap");
  expect_refused(&ModelConfig::final_softcap, 0.0, "final_softcap");
  expect_refused(&ModelConfig::beta_fast, 0.0, "beta_fast");
  expect_refused(&ModelConfig::beta_slow, 0.0, "beta_slow");
  expect_refused(&ModelConfig::low_freq_factor, 0.0, "low_freq_factor");
  expect_refused(&ModelConfig::high_freq_factor, 0.0, "high_freq_factor");
  expect_refused(&ModelConfig::norm_epsilon, 0.0, "norm_epsilon");
  expect_refused(&ModelConfig::mla_norm_epsilon, -1e-6, "mla_norm_epsilon");
  expect_refused(&ModelConfig::init_method_std, 0.0, "init_method_std");
  expect_refused(&ModelConfig::rotary_base, 1.0, "rotary_base");
  expect_refused(&ModelConfig::rotary_scaling_factor, 0.5, "rotary_scaling_factor");
  expect_refused(&ModelConfig::mscale, -1.0, "mscale");
  expect_refused(&ModelConfig::mscale_all_dim, -1.0, "mscale_all_dim");
  ModelConfig config = small_model();
  config.rotary_percent = 1.5;
  expect_violation(config, "rotary_percent", "got 1.5", "at most 1");
}

TEST(ModelRules, HeadsAndGroups) {
  ModelConfig config = small_model();
  config.num_query_groups = 5;
  expect_violation(config, "num_query_groups", "got 5", "must divide num_attention_heads (12)",
                   "use 1, 2, 3, 4, 6 or 12");
  config = small_model();
  config.hidden_size = 100;
  expect_violation(config, "num_attention_heads", "got 12", "must divide hidden_size (100)",
                   "kv_channels");
  config.kv_channels = 8;
  EXPECT_THAT(model_rule_violations(config, 1), IsEmpty());
}

TEST(ModelRules, TensorParallelism) {
  ModelConfig config = small_model();
  const auto violations = [&](std::int64_t tp) { return model_rule_violations(config, tp); };
  const auto blames = [](const std::string& key, const std::string& message) {
    return ElementsAre(
        AllOf(Field(&RuleViolation::key, key), Field(&RuleViolation::message, HasSubstr(message))));
  };
  config.num_query_groups = 6;
  EXPECT_THAT(violations(4), blames("num_query_groups",
                                    "got 6; must be a multiple or a divisor of "
                                    "tensor_model_parallel_size (4)"));
  EXPECT_THAT(violations(2), IsEmpty());
  config.num_query_groups = 1;
  EXPECT_THAT(violations(4), IsEmpty());
  EXPECT_THAT(violations(8), blames("num_attention_heads", "got 12; must be a multiple of"));
  config.ffn_hidden_size = 161;
  EXPECT_THAT(violations(4), blames("ffn_hidden_size", "got 161; must be a multiple of"));
}

TEST(ModelRules, LatentKeysNeedALatentRank) {
  const auto expect_latent_only = [](auto member, auto value, const std::string& key) {
    ModelConfig config = small_model();
    config.*member = value;
    expect_violation(config, key, "got", "only multi-head latent attention reads it",
                     "set kv_lora_rank");
  };
  expect_latent_only(&ModelConfig::q_lora_rank, 8, "q_lora_rank");
  expect_latent_only(&ModelConfig::qk_head_dim, 8, "qk_head_dim");
  expect_latent_only(&ModelConfig::qk_pos_emb_head_dim, 8, "qk_pos_emb_head_dim");
  expect_latent_only(&ModelConfig::v_head_dim, 8, "v_head_dim");
  expect_latent_only(&ModelConfig::latent_norm, true, "latent_norm");
  expect_latent_only(&ModelConfig::mla_norm_epsilon, 1e-6, "mla_norm_epsilon");
  expect_latent_only(&ModelConfig::rotary_segments, 2, "rotary_segments");
}

TEST(ModelRules, LatentAttentionExcludesWhatItDoesNotRead) {
  const auto expect_refused = [](auto member, auto value, const std::string& key,
                                 const std::string& reason) {
    ModelConfig config = latent_model();
    config.*member = value;
    expect_violation(config, key, "latent attention", reason);
  };
  expect_refused(&ModelConfig::num_query_groups, 4, "num_query_groups", "got 4");
  expect_refused(&ModelConfig::num_query_groups, latent_model().num_attention_heads,
                 "num_query_groups", "delete num_query_groups");
  expect_refused(&ModelConfig::kv_channels, 16, "kv_channels", "got 16");
  expect_refused(&ModelConfig::rotary_percent, 1.0, "rotary_percent", "got 1");
  expect_refused(&ModelConfig::position_embedding, PositionEmbedding::kAlibi, "position_embedding",
                 "use rope");
  expect_refused(&ModelConfig::qk_norm, true, "qk_norm", "delete it");
  expect_refused(&ModelConfig::add_bias_linear, true, "add_bias_linear", "delete it");
  ModelConfig config = latent_model();
  config.add_qkv_bias = true;
  EXPECT_THAT(model_rule_violations(config, 1), IsEmpty());
  config.q_lora_rank = 8;
  expect_violation(config, "add_qkv_bias", "got true", "none on compressed queries", "q_lora_rank");
  config = latent_model();
  config.latent_norm = false;
  EXPECT_THAT(model_rule_violations(config, 1), IsEmpty());
  config.mla_norm_epsilon = 1e-5;
  expect_violation(config, "mla_norm_epsilon", "latent_norm is false", "delete it");
  config = latent_model();
  config.v_head_dim.reset();
  expect_violation(config, "v_head_dim", "missing", "kv_lora_rank is set");
  config = latent_model();
  config.qk_head_dim.reset();
  expect_violation(config, "qk_head_dim", "missing");
  config = latent_model();
  config.qk_pos_emb_head_dim.reset();
  expect_violation(config, "qk_pos_emb_head_dim", "missing");
}

TEST(ModelRules, Positions) {
  ModelConfig config = small_model();
  config.position_embedding = PositionEmbedding::kLearned;
  expect_violation(config, "max_position_embeddings", "missing", "learned_absolute");
  config.max_position_embeddings = 64;
  EXPECT_THAT(model_rule_violations(config, 1), IsEmpty());
  // A key that nobody reads is refused whatever its value, its default too.
  const auto expect_rope_only = [&](auto member, auto value, const std::string& key) {
    ModelConfig unread = config;
    unread.*member = value;
    expect_violation(unread, key, "only position_embedding rope reads it");
  };
  expect_rope_only(&ModelConfig::rotary_base, 500000.0, "rotary_base");
  expect_rope_only(&ModelConfig::rotary_base, 10000.0, "rotary_base");
  expect_rope_only(&ModelConfig::rotary_percent, 1.0, "rotary_percent");
  expect_rope_only(&ModelConfig::rope_type, RopeType::kRope, "rope_type");
  expect_rope_only(&ModelConfig::rope_type, RopeType::kYarn, "rope_type");
}

TEST(ModelRules, RotaryScaling) {
  const auto expect_unread = [](auto member, auto value, const std::string& key,
                                const std::string& reader) {
    ModelConfig config = small_model();
    config.*member = value;
    expect_violation(config, key, "got", "only rope_type " + reader);
  };
  expect_unread(&ModelConfig::rotary_scaling_factor, 8.0, "rotary_scaling_factor",
                "yarn and llama3");
  expect_unread(&ModelConfig::original_max_position_embeddings, 4096,
                "original_max_position_embeddings", "yarn and llama3");
  expect_unread(&ModelConfig::beta_fast, 32.0, "beta_fast", "yarn");
  expect_unread(&ModelConfig::beta_slow, 1.0, "beta_slow", "yarn");
  expect_unread(&ModelConfig::mscale, 1.0, "mscale", "yarn");
  expect_unread(&ModelConfig::mscale_all_dim, 1.0, "mscale_all_dim", "yarn");
  expect_unread(&ModelConfig::low_freq_factor, 1.0, "low_freq_factor", "llama3");
  expect_unread(&ModelConfig::high_freq_factor, 4.0, "high_freq_factor", "llama3");
  ModelConfig config = deepseek_v3();
  config.rotary_scaling_factor.reset();
  expect_violation(config, "rotary_scaling_factor", "missing");
  config = deepseek_v3();
  config.original_max_position_embeddings.reset();
  expect_violation(config, "original_max_position_embeddings", "missing");
  config = deepseek_v3();
  config.beta_slow = 32.0;
  expect_violation(config, "beta_fast", "got 32", "greater than beta_slow (32)");
  config = small_model();
  config.rope_type = RopeType::kLlama3;
  config.rotary_scaling_factor = 8;
  config.original_max_position_embeddings = 8192;
  config.low_freq_factor = 5.0;
  expect_violation(config, "high_freq_factor", "got 4", "greater than low_freq_factor (5)");
}

TEST(ModelRules, RotatedDimensionsArePairs) {
  ModelConfig config = small_model();
  config.kv_channels = 7;
  expect_violation(config, "kv_channels", "7 of 7 dimensions", "even");
  config.position_embedding = PositionEmbedding::kAlibi;
  EXPECT_THAT(model_rule_violations(config, 1), IsEmpty());
  config = small_model();
  config.rotary_percent = 0.3;
  expect_violation(config, "rotary_percent", "got 0.3", "not a whole number");
  config = latent_model();
  config.qk_pos_emb_head_dim = 5;
  expect_violation(config, "qk_pos_emb_head_dim", "5 of 11 dimensions", "even");
  for (const std::int64_t segments : {3, 8}) {
    config = latent_model();
    config.qk_pos_emb_head_dim = 8;
    config.rotary_segments = segments;
    expect_violation(config, "rotary_segments", "got " + std::to_string(segments),
                     "divide the 8 rotated dimensions");
  }
}

TEST(ModelRules, WindowPattern) {
  ModelConfig config = small_model();
  config.window_pattern = WindowPattern{.global_every = 2, .layers = {}};
  expect_violation(config, "window_pattern", "no window", "set window_size");
  config.window_size = 4;
  EXPECT_THAT(model_rule_violations(config, 1), IsEmpty());
  config.window_pattern = WindowPattern{.global_every = 1, .layers = {}};
  expect_violation(config, "window_pattern", "got 1", "at least 2");
  config.window_pattern = WindowPattern{.global_every = 0, .layers = {1, 0}};
  expect_violation(config, "window_pattern", "lists 2 layers", "num_layers (6)");
  config.window_pattern = WindowPattern{.global_every = 0, .layers = {1, 0, 2, 0, 1, 0}};
  expect_violation(config, "window_pattern", "1 for a windowed layer");
  config.window_pattern = WindowPattern{.global_every = 0, .layers = {0, 0, 0, 0, 0, 0}};
  expect_violation(config, "window_pattern", "no windowed layer");
}

TEST(ModelRules, BiasesAndNorms) {
  ModelConfig config = small_model();
  config.add_bias_linear = config.add_qkv_bias = true;
  expect_violation(config, "add_qkv_bias", "add_bias_linear");
  config = small_model();
  config.normalization = Normalization::kLayerNorm;
  config.norm_weight = ops::NormWeight::kOnePlus;
  expect_violation(config, "norm_weight", "got one_plus", "RMSNorm");
}

}  // namespace
}  // namespace polyhead
