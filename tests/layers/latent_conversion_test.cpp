// What a conversion to latent attention does to a model: the same hidden states where it is exact.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "layers/conversion/latent_attention_conversion.h"
#include "layers/huggingface/config_json.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"
#include "tests/support/whole_model.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::relative_error;
using testing::Variant;
using testing::variant;
using testing::WholeModel;

WholeModel model_of(const ModelConfig& config, DType dtype = DType::kF64) {
  for (const RuleViolation& broken : model_rule_violations(config, 1)) {
    ADD_FAILURE() << broken.key << ": " << broken.message;
  }
  return WholeModel(config, dtype);
}

Tensor hidden_of(const WholeModel& model) {
  return model.model.infer(WholeModel::tokens(), WholeModel::kBatch);
}

AttentionInputs inputs_of(const WholeModel& model) {
  const CalibrationBatch text{WholeModel::tokens(), WholeModel::tokens(), WholeModel::kBatch};
  return attention_inputs(model.model, Device::kCpu, {&text, 1});
}

void convert(WholeModel& parent, LatentAttentionConversion& conversion, LatentStage stage,
             WholeModel& child) {
  for (Parameter* parameter : child.model.parameters()) {
    const auto parsed = attention_tensor_name(parameter->name);
    if (parsed && conversion.shapes(parsed->layer, {}).contains(parsed->name)) continue;
    parameter->value.copy_from(parent.parameter(parameter->name).value);
  }
  for (std::int64_t layer = 0; layer < parent.model.config().num_layers; ++layer) {
    AttentionTensors weights = parent.attention(layer);
    conversion.prepare(layer, weights);
    std::erase_if(weights, [&](const auto& item) { return !conversion.replaces(item.first); });
    child.set_attention(layer, stage == LatentStage::kNorm
                                   ? conversion.convert(layer, weights, TensorRole::kWeights)
                                   : conversion.tensors_after(stage, layer));
  }
}

std::vector<Variant> embeddable_variants() {
  const ModelConfig small = testing::small_config();
  return {
      variant("mha", small, [](ModelConfig&) {}),
      variant("gqa", small, [](ModelConfig& c) { c.num_query_groups = 2; }),
      variant("mqa", small, [](ModelConfig& c) { c.num_query_groups = 1; }),
      variant("one_head", small, [](ModelConfig& c) { c.num_attention_heads = 1; }),
      variant("partial_rotation", small,
              [](ModelConfig& c) {
                c.num_query_groups = 4;
                c.rotary_percent = 2.0 / 3.0;
              }),
      variant("yarn", small,
              [](ModelConfig& c) {
                c.num_query_groups = 4;
                c.rope_type = RopeType::kYarn;
                c.rotary_scaling_factor = 40.0;
                c.original_max_position_embeddings = 16;
                c.mscale = 0.707;
                c.mscale_all_dim = 1.0;
              }),
      variant("llama3", small,
              [](ModelConfig& c) {
                c.num_query_groups = 4;
                c.rope_type = RopeType::kLlama3;
                c.rotary_scaling_factor = 8.0;
                c.original_max_position_embeddings = 16;
              }),
      variant("qwen2", small,
              [](ModelConfig& c) {
                c.num_query_groups = 4;
                c.add_qkv_bias = true;
              }),
      variant("mistral", small, [](ModelConfig& c) { c.window_size = 3; }),
      variant("gemma2", small,
              [](ModelConfig& c) {
                c.num_query_groups = 4;
                c.norm_weight = ops::NormWeight::kOnePlus;
                c.post_norms = true;
                c.activation = ops::Activation::kGeglu;
                c.attention_softcap = 3.0;
                c.softmax_scale = 0.3;
                c.tie_word_embeddings = true;
                c.window_size = 3;
                c.window_pattern = WindowPattern{2, {}};
              }),
  };
}

class Embedding : public ::testing::TestWithParam<Variant> {};

TEST_P(Embedding, ChangesNoHiddenState) {
  LatentAttentionConversion conversion(GetParam().config, std::nullopt, nullptr);
  const ModelConfig config = conversion.config_after(LatentStage::kNorm);
  EXPECT_EQ(huggingface_model_type(config), "polyhead");
  WholeModel parent = model_of(GetParam().config), child = model_of(config);
  parent.randomize_vectors();
  convert(parent, conversion, LatentStage::kNorm, child);
  EXPECT_LE(relative_error(hidden_of(child), hidden_of(parent)), 1e-13);

  WholeModel single_parent = model_of(GetParam().config, DType::kF32);
  WholeModel single = model_of(config, DType::kF32);
  single_parent.randomize_vectors();
  convert(single_parent, conversion, LatentStage::kNorm, single);
  EXPECT_LE(relative_error(single.losses(), single_parent.losses()), 1e-6);
}

INSTANTIATE_TEST_SUITE_P(Variants, Embedding, ::testing::ValuesIn(embeddable_variants()),
                         [](const auto& test) { return test.param.name; });

TEST(LatentForm, IsRefusedByName) {
  const auto refusal = [](const auto& change) {
    const Variant changed = variant("", testing::small_config(), change);
    return error_of([&] { require_latent_form(changed.config); });
  };
  EXPECT_EQ(refusal([](ModelConfig&) {}), "no error");
  EXPECT_THAT(refusal([](ModelConfig& c) { c.kv_lora_rank = 8; }), HasSubstr("kv_lora_rank is 8"));
  EXPECT_THAT(refusal([](ModelConfig& c) { c.qk_norm = true; }), HasSubstr("qk_norm"));
  EXPECT_THAT(refusal([](ModelConfig& c) { c.add_bias_linear = true; }),
              HasSubstr("add_bias_linear"));
  for (const PositionEmbedding other :
       {PositionEmbedding::kAlibi, PositionEmbedding::kNone, PositionEmbedding::kLearned}) {
    EXPECT_THAT(refusal([&](ModelConfig& c) { c.position_embedding = other; }),
                HasSubstr("position_embedding is not rope"));
  }
}

// How far hidden states are from the parent's after a stage.
double change_by(const ModelConfig& config, const LatentTarget& target, LatentStage stage,
                 const std::function<void(WholeModel&)>& prepare = nullptr) {
  WholeModel parent = model_of(config);
  parent.randomize_vectors();
  if (prepare) prepare(parent);
  const AttentionInputs inputs = inputs_of(parent);
  LatentAttentionConversion conversion(config, target, &inputs);
  WholeModel child = model_of(conversion.config_after(stage));
  convert(parent, conversion, stage, child);
  return relative_error(hidden_of(child), hidden_of(parent));
}

// With all components kept and the full rank nothing is lost but by the norm.
TEST(Compression, OfFullRankIsExact) {
  for (const Variant& source : embeddable_variants()) {
    const ModelConfig& config = source.config;
    const GroupedHeads heads = grouped_heads(config);
    const std::int64_t hidden = config.hidden_size;
    LatentTarget target{.kv_lora_rank = std::min(2 * heads.groups * heads.head_dim, hidden),
                        .rope_dim = heads.groups * heads.rotary_dim};
    EXPECT_LE(change_by(config, target, LatentStage::kRotation), 1e-12) << source.name;
    // With biases the input is [x | 1], of one more dimension than the hidden size.
    if (config.add_qkv_bias) continue;
    EXPECT_LE(change_by(config, target, LatentStage::kRank), 1e-10) << source.name;
    target.q_lora_rank = std::min(heads.heads * (heads.head_dim + target.rope_dim), hidden);
    EXPECT_LE(change_by(config, target, LatentStage::kRank), 1e-10) << source.name;
  }
}

// A rank below the hidden size, but as large as what there is.
TEST(Compression, KeepsBiases) {
  ModelConfig config = testing::small_config();
  config.num_query_groups = 1;
  config.add_qkv_bias = true;
  const LatentTarget target{.kv_lora_rank = 6, .rope_dim = 6};
  EXPECT_LE(change_by(config, target, LatentStage::kRank), 1e-11);
  EXPECT_EQ(huggingface_model_type(compressed_config(config, target, LatentStage::kNorm)),
            "polyhead");
}

// One shared key of a head's size holds one group's rotation: DeepSeek's shape, exact but for the
// norm, at half of the full rank since no key is left without rotation.
TEST(Compression, OfOneGroupIsExactInTheShapeOfDeepseek) {
  ModelConfig config = testing::small_config();
  config.num_query_groups = 1;
  const LatentTarget target{.kv_lora_rank = 6, .rope_dim = 6};
  EXPECT_LE(change_by(config, target, LatentStage::kRank), 1e-12);
  const ModelConfig result = compressed_config(config, target, LatentStage::kNorm);
  EXPECT_EQ(huggingface_model_type(result), "deepseek_v3");
  EXPECT_EQ(*result.qk_head_dim, 6);
  EXPECT_EQ(*result.v_head_dim, 6);
  EXPECT_EQ(*result.qk_pos_emb_head_dim, 6);
}

// Inputs that are normalised with equal weights have one length, and so has a latent that is a
// rotation of them: then its norm does nothing. Its epsilon is 1e-6.
TEST(Compression, TheNormSparesLatentsOfOneLength) {
  ModelConfig config = testing::small_config();
  config.norm_epsilon = 1e-9;
  LatentAttentionConversion conversion(config, LatentTarget{.kv_lora_rank = 20, .rope_dim = 48},
                                       nullptr);
  WholeModel parent = model_of(config);
  WholeModel child = model_of(conversion.config_after(LatentStage::kNorm));
  convert(parent, conversion, LatentStage::kNorm, child);
  EXPECT_LE(relative_error(hidden_of(child), hidden_of(parent)), 1e-5);
}

ModelConfig hardly_rotating(std::int64_t groups) {
  ModelConfig config = testing::small_config();
  config.num_query_groups = groups;
  config.rope_type = RopeType::kLlama3;
  config.rotary_scaling_factor = 1e15;
  config.original_max_position_embeddings = 1;
  return config;
}

// Where nothing turns, it does not matter what turns: shared keys of any size and what is left
// must make up the same scores.
TEST(Compression, SplitsKeysWithoutLoss) {
  for (const std::int64_t groups : {1, 2, 8}) {
    for (const std::int64_t rope_dim : {2, 6, 12, 48}) {
      if (rope_dim > groups * 6) continue;
      const ModelConfig config = hardly_rotating(groups);
      const LatentTarget target{.kv_lora_rank = std::min<std::int64_t>(12 * groups, 20),
                                .rope_dim = rope_dim};
      EXPECT_LE(change_by(config, target, LatentStage::kRotation), 1e-11) << groups << rope_dim;
      EXPECT_LE(change_by(config, target, LatentStage::kRank), 1e-10) << groups << rope_dim;
    }
  }
}

// YaRN multiplies what rotates; what does not rotate any more must keep the factor. All
// frequencies but the first are slowed down to nothing, and the first is silent.
TEST(Compression, KeepsTheAmplitudeOfAScaledRotation) {
  ModelConfig config = testing::small_config();
  config.num_query_groups = 2;
  config.rope_type = RopeType::kYarn;
  config.rotary_scaling_factor = 1e15;
  config.original_max_position_embeddings = 1;
  ASSERT_GT(rotary_frequencies(config).amplitude, 4.0);
  ASSERT_LT(rotary_frequencies(config).inverse_frequencies[1], 1e-15);
  const auto silence = [](WholeModel& parent) {
    for (std::int64_t layer = 0; layer < 2; ++layer) {
      Tensor& key = parent.parameter(attention_prefix(layer) + "k_proj.weight").value;
      for (const std::int64_t row : {0, 3, 6, 9}) key.row_slice(row, row + 1).set_zero();
    }
  };
  const LatentTarget target{.kv_lora_rank = 20, .rope_dim = 6};
  EXPECT_LE(change_by(config, target, LatentStage::kRank, silence), 1e-10);
}

// Less is kept of a smaller latent, and what is kept is reported.
TEST(Compression, ReportsWhatWasKept) {
  const ModelConfig config = testing::small_config();
  WholeModel parent = model_of(config);
  const AttentionInputs inputs = inputs_of(parent);
  const auto kept = [&](const LatentTarget& target) {
    LatentAttentionConversion conversion(config, target, &inputs);
    conversion.prepare(1, parent.attention(1));
    return conversion.kept().at(1);
  };
  const auto small = kept({.kv_lora_rank = 4, .rope_dim = 6, .q_lora_rank = 5});
  const auto large = kept({.kv_lora_rank = 15, .rope_dim = 12, .q_lora_rank = 20});
  EXPECT_LT(small.rotation, large.rotation - 0.05);
  EXPECT_LT(small.keys_and_values, large.keys_and_values - 0.05);
  EXPECT_LT(small.queries, 0.99);
  EXPECT_NEAR(large.queries, 1.0, 1e-12);
}

TEST(Compression, RefusesRanksThatDoNotFit) {
  ModelConfig config = testing::small_config();
  config.num_query_groups = 1;
  const auto refusal = [&](const LatentTarget& target) {
    return error_of([&] { LatentAttentionConversion(config, target, nullptr); });
  };
  EXPECT_EQ(refusal({12, 6}), "no error");
  EXPECT_THAT(refusal({13, 6}), HasSubstr("--kv-lora-rank 13: must lie in 1 to 12"));
  EXPECT_THAT(refusal({0, 6}), HasSubstr("--kv-lora-rank 0"));
  EXPECT_THAT(refusal({12, 4}), HasSubstr("--rope-dim 4"));
  EXPECT_THAT(refusal({12, 6, 21}), HasSubstr("--q-lora-rank 21: must lie in 1 to 20"));
  config.add_qkv_bias = true;
  EXPECT_THAT(refusal({12, 6, 4}), HasSubstr("add_qkv_bias"));
}

// The shapes that are announced are those of the tensors, which are those of the model; moments
// are zeros of the same shapes.
TEST(LatentAttentionConversion, AnnouncesItsTensors) {
  ModelConfig biased = testing::small_config();
  biased.add_qkv_bias = true;
  const struct {
    ModelConfig config;
    std::optional<LatentTarget> target;
  } cases[] = {{testing::small_config(), std::nullopt},
               {biased, std::nullopt},
               {biased, LatentTarget{7, 6}},
               {testing::small_config(), LatentTarget{7, 2, 9}}};
  for (const auto& [config, target] : cases) {
    LatentAttentionConversion conversion(config, target, nullptr);
    WholeModel parent = model_of(config),
               child = model_of(conversion.config_after(LatentStage::kNorm));
    AttentionTensors weights = parent.attention(0);
    conversion.prepare(0, weights);
    std::erase_if(weights, [&](const auto& item) { return !conversion.replaces(item.first); });
    AttentionShapes expected;
    for (const auto& [name, tensor] : child.attention(0)) {
      if (!name.starts_with("o_proj")) expected[name] = tensor.shape();
    }
    EXPECT_EQ(conversion.shapes(0, {}), expected);
    for (const TensorRole role :
         {TensorRole::kWeights, TensorRole::kMomentum, TensorRole::kSecondMoments}) {
      AttentionShapes made;
      for (const auto& [name, tensor] : conversion.convert(0, weights, role)) {
        made[name] = tensor.shape();
        EXPECT_EQ(testing::max_abs(tensor) == 0,
                  role != TensorRole::kWeights || name.ends_with(".bias"))
            << name;
      }
      EXPECT_EQ(made, expected);
    }
    EXPECT_FALSE(conversion.replaces("o_proj.weight"));
  }
}

}  // namespace
}  // namespace polyhead
