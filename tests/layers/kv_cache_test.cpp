#include "layers/kv_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace polyhead {
namespace {

constexpr std::int64_t kBf16 = 2;

ModelConfig grouped(std::int64_t layers, std::int64_t heads, std::int64_t groups,
                    std::int64_t head_dim) {
  ModelConfig config;
  config.num_layers = layers;
  config.hidden_size = heads * head_dim;
  config.ffn_hidden_size = 4 * config.hidden_size;
  config.num_attention_heads = heads;
  config.num_query_groups = groups;
  config.kv_channels = head_dim;
  return config;
}

ModelConfig latent(std::int64_t layers, std::int64_t heads) {
  ModelConfig config = grouped(layers, heads, heads, 128);
  config.num_query_groups.reset();
  config.kv_channels.reset();
  config.kv_lora_rank = 512;
  config.qk_head_dim = 128;
  config.qk_pos_emb_head_dim = 64;
  config.v_head_dim = 128;
  return config;
}

// One layer, 8192 tokens, in bf16.
TEST(KvCache, OfOneLayer) {
  constexpr std::int64_t kMiB = 1 << 20;
  const auto bytes = [](const ModelConfig& config) {
    return kv_cache_bytes(config, 8192, 1, kBf16);
  };
  EXPECT_EQ(bytes(grouped(1, 32, 32, 128)), 134217728);
  EXPECT_EQ(bytes(grouped(1, 32, 32, 128)), 128 * kMiB);
  EXPECT_EQ(bytes(grouped(1, 32, 8, 128)), 32 * kMiB);
  EXPECT_EQ(bytes(grouped(1, 32, 4, 128)), 16 * kMiB);
  EXPECT_EQ(bytes(grouped(1, 32, 1, 128)), 4 * kMiB);
  EXPECT_EQ(bytes(latent(1, 32)), 9437184);
  const auto expanded = [](std::int64_t heads) {
    return 8192 * kBf16 * expanded_kv_cache_elements(latent(1, heads), 1);
  };
  EXPECT_EQ(expanded(32), 160 * kMiB);
  EXPECT_EQ(expanded(128), 640 * kMiB);
}

TEST(KvCache, PerTokenOfKnownModels) {
  const auto bytes = [](const ModelConfig& config) {
    return kv_cache_bytes_per_token(config, 1, kBf16);
  };
  EXPECT_EQ(bytes(grouped(32, 32, 8, 128)), 131072);    // Llama 3 8B
  EXPECT_EQ(bytes(grouped(80, 64, 8, 128)), 327680);    // Llama 3 70B, Qwen 2.5 72B
  EXPECT_EQ(bytes(grouped(126, 128, 8, 128)), 516096);  // Llama 3.1 405B
  EXPECT_EQ(bytes(latent(60, 128)), 69120);             // DeepSeek-V2
  EXPECT_EQ(bytes(latent(61, 128)), 70272);             // DeepSeek-V3
  EXPECT_EQ(bytes(grouped(96, 96, 96, 128)), 4718592);  // GPT-3 175B
}

TEST(KvCache, OnOneOfSeveralRanks) {
  EXPECT_EQ(kv_cache_elements(grouped(1, 32, 8, 128), 4), 2 * 2 * 128);
  EXPECT_EQ(kv_cache_elements(grouped(1, 32, 2, 128), 8), 2 * 1 * 128);  // copies on four ranks
  EXPECT_EQ(kv_cache_elements(latent(1, 32), 8), 512 + 64);
  EXPECT_EQ(expanded_kv_cache_elements(latent(1, 32), 8), 4 * 320);
}

TEST(KvCache, WindowsBoundIt) {
  ModelConfig config = grouped(4, 8, 8, 16);
  config.window_size = 100;
  const std::int64_t token = 2 * 8 * 16 * kBf16;
  EXPECT_EQ(kv_cache_bytes(config, 1000, 1, kBf16), 4 * 100 * token);
  EXPECT_EQ(kv_cache_bytes(config, 70, 1, kBf16), 4 * 70 * token);
  config.window_pattern = WindowPattern{.global_every = 2, .layers = {}};
  EXPECT_EQ(kv_cache_bytes(config, 1000, 1, kBf16), (2 * 100 + 2 * 1000) * token);
}

TEST(AttentionAlternatives, AreValidModelsOfTheSameSize) {
  ModelConfig biased = grouped(2, 32, 8, 128);
  biased.add_qkv_bias = biased.qk_norm = true;
  biased.rotary_percent = 0.5;
  ModelConfig gpt2 = grouped(2, 12, 12, 64);
  gpt2.add_bias_linear = true;
  gpt2.position_embedding = PositionEmbedding::kLearned;
  gpt2.max_position_embeddings = 1024;
  ModelConfig alibi = grouped(2, 6, 1, 5);
  alibi.position_embedding = PositionEmbedding::kAlibi;
  ModelConfig odd = latent(2, 32);
  odd.v_head_dim = 65;
  odd.mla_norm_epsilon = 1e-5;
  for (const ModelConfig& config :
       {grouped(2, 32, 8, 128), latent(2, 32), grouped(2, 6, 3, 10), biased, gpt2, alibi, odd}) {
    ASSERT_TRUE(model_rule_violations(config, 1).empty());
    std::vector<std::string> names;
    for (const AttentionAlternative& alternative : attention_alternatives(config)) {
      names.push_back(alternative.name);
      for (const RuleViolation& violation : model_rule_violations(alternative.config, 1)) {
        ADD_FAILURE() << alternative.name << ": " << violation.key << ": " << violation.message;
      }
    }
    EXPECT_THAT(names, ::testing::IsSupersetOf({"MHA", "GQA, 2 groups", "MQA", "MLA, 512 + 64"}));
  }
  EXPECT_EQ(attention_alternatives(grouped(1, 1, 1, 8)).size(), 3u);
}

TEST(AttentionAlternatives, RatiosOfLatentAttention) {
  const double mla = static_cast<double>(kv_cache_elements(latent(1, 32), 1));
  const auto ratio = [&](std::int64_t heads, std::int64_t groups) {
    return static_cast<double>(kv_cache_elements(grouped(1, heads, groups, 128), 1)) / mla;
  };
  EXPECT_NEAR(ratio(32, 32), 14.2, 0.03);
  EXPECT_NEAR(ratio(128, 128), 56.9, 0.02);
  EXPECT_NEAR(ratio(32, 8), 3.56, 0.01);
  EXPECT_DOUBLE_EQ(1 / ratio(32, 1), 2.25);
}

}  // namespace
}  // namespace polyhead
