#include "scripts/inspection_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "scripts/train_config.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

ModelConfig shipped(const std::string& name) {
  return load_train_config(POLYHEAD_SOURCE_DIR "/configs/" + name + ".yaml", {}, std::nullopt)
      .model;
}

std::string report(const std::string& name, int ranks, std::int64_t context = 8192) {
  return inspection_report(shipped(name), {name, ranks, context});
}

std::string problem(const ModelConfig& config, const InspectionOptions& options) {
  return testing::error_of([&] { inspection_report(config, options); });
}

TEST(InspectionReport, Llama3) {
  const std::string text = report("llama3_8b", 2);
  EXPECT_THAT(text, HasSubstr("attention: GQA, class GroupedQueryAttention"));
  EXPECT_THAT(text,
              HasSubstr("because num_query_groups is 8: each key and value serves 4 of 32 heads"));
  EXPECT_THAT(text, HasSubstr("windows: layers 0-31: global"));
  EXPECT_THAT(text, ContainsRegex("model.layers.\\{0-31\\}.self_attn.k_proj.weight +"
                                  "\\(1024, 4096\\) +\\(512, 4096\\)\n"));
  EXPECT_THAT(text, ContainsRegex("model.embed_tokens.weight +\\(128256, 4096\\) +"
                                  "\\(64128, 4096\\)\n"));
  EXPECT_THAT(text, ContainsRegex("\ntotal +8030261248 +100.0%"));
  EXPECT_THAT(text, ContainsRegex("this model: GQA +131072 +65536 +512.00 +536.87 +1.000\n"));
  EXPECT_THAT(text, ContainsRegex("\nMHA +524288 +262144 +2048.00 +2147.48 +4.000\n"));
  EXPECT_THAT(text, ContainsRegex("\nMQA +16384 +16384 +128.00 +134.22 +0.250\n"));
  EXPECT_THAT(text, ContainsRegex("\nMLA, 512 \\+ 64 +36864 +36864 +288.00 +301.99 +0.562\n"));
  EXPECT_THAT(text,
              ContainsRegex("\nGQA\\+SWA, window 4096 +131072 +65536 +256.00 +268.44 +0.500"));
}

TEST(InspectionReport, DeepseekNamesItsLatents) {
  const std::string text = report("deepseek_v3_dense", 8);
  EXPECT_THAT(text, HasSubstr("attention: MLA, class LatentAttention"));
  EXPECT_THAT(text,
              HasSubstr("kv_lora_rank is 512; q_lora_rank is 1536: queries are compressed too"));
  EXPECT_THAT(text, ContainsRegex("kv_a_proj_with_mqa.weight +\\(576, 7168\\) +\\(576, 7168\\)\n"));
  EXPECT_THAT(text, ContainsRegex("this model: MLA +70272 +70272 "));
}

// Totals as the models' authors publish them.
TEST(InspectionReport, CountsOfRealModels) {
  EXPECT_THAT(report("llama2_70b", 8), ContainsRegex("\ntotal +68976648192 "));
  EXPECT_THAT(report("mistral_7b", 8), ContainsRegex("\ntotal +7241732096 "));
  EXPECT_THAT(report("gemma2_9b", 8), ContainsRegex("\ntotal +9241705984 "));
  EXPECT_THAT(report("qwen2.5_7b", 4), ContainsRegex("\ntotal +7615616512 "));
}

TEST(InspectionReport, RowsThatDoNotDivideSaySo) {
  EXPECT_THAT(report("qwen2.5_7b", 4), ContainsRegex("\nGQA, 2 groups +28672 +14336 "));
  ModelConfig config = shipped("llama3_8b");
  config.ffn_hidden_size = 14337;
  config.num_attention_heads = 24;
  config.num_query_groups = 3;
  config.kv_channels = 128;
  EXPECT_THAT(inspection_report(config, {"c", 3, 64}),
              ContainsRegex("\nGQA, 8 groups +cannot be divided over 3 ranks\n"));
}

TEST(InspectionReport, BadRequestsAreRefused) {
  const ModelConfig falcon = shipped("falcon_7b");
  EXPECT_THAT(problem(falcon, {"f.yaml", 2, 64}),
              HasSubstr("f.yaml: model.num_attention_heads: got 71; must be a multiple of"));
  EXPECT_THROW(inspection_report(falcon, {"f.yaml", 2, 64}), ConfigurationError);
  EXPECT_THAT(problem(falcon, {"f.yaml", 0, 64}), HasSubstr("--tp: got 0"));
  EXPECT_THAT(problem(falcon, {"f.yaml", 1, 0}), HasSubstr("--context: got 0"));
  ModelConfig unknown = falcon;
  unknown.vocab_size.reset();
  EXPECT_THAT(problem(unknown, {"f.yaml", 1, 64}),
              AllOf(HasSubstr("vocab_size: missing"), HasSubstr("--set model.vocab_size=")));
}

TEST(InspectionReport, EveryShippedConfigIsInspected) {
  for (const auto& file : std::filesystem::directory_iterator(POLYHEAD_SOURCE_DIR "/configs")) {
    if (file.path().extension() != ".yaml") continue;
    EXPECT_THAT(report(file.path().stem().string(), 1),
                AllOf(HasSubstr("this model: "), Not(HasSubstr("cannot be divided"))))
        << file.path().string();
  }
}

TEST(WindowTable, IsCompressed) {
  EXPECT_EQ(window_table(shipped("mistral_7b")), "layers 0-31: 4096 tokens");
  EXPECT_EQ(window_table(shipped("gemma2_9b")),
            "layers 0, 2, ..., 40: 4096 tokens; layers 1, 3, ..., 41: global");
  ModelConfig config = shipped("mistral_7b");
  config.num_layers = 9;
  config.window_pattern = WindowPattern{.global_every = 0, .layers = {1, 1, 1, 0, 1, 0, 0, 1, 1}};
  EXPECT_EQ(window_table(config), "layers 0-2, 4, 7-8: 4096 tokens; layers 3, 5-6: global");
}

TEST(AttentionReason, NamesTheKey) {
  EXPECT_EQ(attention_reason(shipped("quickstart_mqa")),
            "num_query_groups is 1: all 8 heads share one key and value");
  EXPECT_THAT(attention_reason(shipped("quickstart_mha")), HasSubstr("absent or equal to"));
  EXPECT_THAT(attention_reason(shipped("quickstart_mla")), HasSubstr("queries are not compressed"));
}

}  // namespace
}  // namespace polyhead
