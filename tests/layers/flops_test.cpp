#include "layers/flops.h"

#include <gtest/gtest.h>

namespace polyhead {
namespace {

ModelConfig example() {
  ModelConfig config;
  config.num_layers = 3;
  config.hidden_size = 10;
  config.ffn_hidden_size = 7;
  config.num_attention_heads = 4;
  config.num_query_groups = 2;
  config.kv_channels = 6;
  config.vocab_size = 11;
  return config;
}

TEST(Flops, CountsProductsAndVisibleKeys) {
  ModelConfig config = example();
  // q and o: 10 x 24 each, k and v: 10 x 12 each; gate, up, down: 10 x 7 each; head: 11 x 10.
  constexpr std::int64_t kParameters = 3 * (2 * 240 + 2 * 120 + 3 * 70) + 110;
  EXPECT_EQ(matmul_parameters(config), kParameters);
  EXPECT_DOUBLE_EQ(training_flops_per_token(config, 5), 6.0 * kParameters + 3 * 6 * 4 * 12 * 3.0);
  config.tie_word_embeddings = true;
  EXPECT_EQ(matmul_parameters(config), kParameters);
  config.activation = ops::Activation::kGelu;
  EXPECT_EQ(matmul_parameters(config), kParameters - 3 * 70);
}

TEST(Flops, WindowsLimitTheKeys) {
  ModelConfig config = example();
  config.window_size = 2;
  config.window_pattern = WindowPattern{3, {}};  // the third layer attends globally
  const double windowed = (1 + 2 + 2 + 2 + 2) / 5.0;
  EXPECT_DOUBLE_EQ(
      training_flops_per_token(config, 5),
      6.0 * static_cast<double>(matmul_parameters(config)) + 6 * 4 * 12 * (2 * windowed + 3.0));
}

TEST(Flops, LatentAttentionCountsItsProjections) {
  ModelConfig config = example();
  config.num_query_groups.reset();
  config.kv_channels.reset();
  config.kv_lora_rank = 5;
  config.q_lora_rank = 9;
  config.qk_head_dim = 3;
  config.qk_pos_emb_head_dim = 2;
  config.v_head_dim = 4;
  constexpr std::int64_t kAttention = 10 * 9 + 9 * 4 * 5 + 10 * 7 + 5 * 4 * 7 + 4 * 4 * 10;
  EXPECT_EQ(matmul_parameters(config), 3 * (kAttention + 210) + 110);
  config.q_lora_rank.reset();
  EXPECT_EQ(matmul_parameters(config), 3 * (kAttention - 90 - 180 + 200 + 210) + 110);
}

}  // namespace
}  // namespace polyhead
