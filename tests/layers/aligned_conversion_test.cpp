// What conversions to fewer groups do to a model's outputs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "layers/conversion/grouped_query_conversion.h"
#include "layers/conversion/head_tensors.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"
#include "tests/support/whole_model.h"

namespace polyhead {
namespace {

using testing::relative_error;
using testing::Variant;
using testing::WholeModel;

constexpr PoolingMethod kDeterministic[] = {PoolingMethod::kMean, PoolingMethod::kFirst,
                                            PoolingMethod::kMedoid, PoolingMethod::kAligned,
                                            PoolingMethod::kAlignedRenorm};

// Sources with 8 or 4 groups.
std::vector<Variant> sources() {
  const ModelConfig mha = testing::small_config();
  using testing::variant;
  return {
      variant("mha", mha, [](ModelConfig&) {}),
      variant("gqa4", mha, [](ModelConfig& c) { c.num_query_groups = 4; }),
      variant("biases", mha,
              [](ModelConfig& c) {
                c.num_query_groups = 4;
                c.add_qkv_bias = true;
              }),
      variant("all_biases", mha, [](ModelConfig& c) { c.add_bias_linear = true; }),
      variant("qk_norm", mha, [](ModelConfig& c) { c.qk_norm = true; }),
      variant("partial_rope", mha, [](ModelConfig& c) { c.rotary_percent = 2.0 / 3.0; }),
      variant("partial_rope_qk_norm", mha,
              [](ModelConfig& c) {
                c.rotary_percent = 1.0 / 3.0;
                c.qk_norm = true;
              }),
      variant("alibi", mha,
              [](ModelConfig& c) { c.position_embedding = PositionEmbedding::kAlibi; }),
      variant("no_positions", mha,
              [](ModelConfig& c) { c.position_embedding = PositionEmbedding::kNone; }),
      variant("learned", mha,
              [](ModelConfig& c) {
                c.position_embedding = PositionEmbedding::kLearned;
                c.max_position_embeddings = 9;
              }),
      variant("window_and_softcap", mha,
              [](ModelConfig& c) {
                c.window_size = 3;
                c.attention_softcap = 3.0;
              }),
  };
}

// The weights of q_norm and k_norm that let some dimensions mix: 0 and 3 (a pair), and 4, 5.
void make_norms_partly_even(WholeModel& model) {
  for (Parameter* parameter : model.model.parameters()) {
    if (!parameter->name.ends_with("q_norm.weight") &&
        !parameter->name.ends_with("k_norm.weight")) {
      continue;
    }
    Tensor& weights = parameter->value;
    dispatch_cpu_float(weights.dtype(), [&]<class T>() {
      T* w = weights.data<T>();
      w[3] = w[0];
      w[5] = w[4];
    });
  }
}

void expect_alignment_changes_nothing(const ModelConfig& config, DType dtype, double tolerance) {
  WholeModel source(config, dtype), turned(config, dtype);
  source.randomize_vectors();
  make_norms_partly_even(source);
  turned.copy_from(source);
  const KeyValuePooling pooling = plan_pooling(config, 2, PoolingMethod::kAligned, 0);
  GroupedQueryConversion conversion(config, pooling, nullptr);
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const AttentionTensors before = source.attention(layer);
    conversion.prepare(layer, before);
    const AttentionTensors after = conversion.aligned(layer, before);
    turned.set_attention(layer, after);
    EXPECT_GT(relative_error(after.at("v_proj.weight"), before.at("v_proj.weight")), 0.1);
    EXPECT_GT(relative_error(after.at("k_proj.weight"), before.at("k_proj.weight")), 0.1);
    const PoolingFidelity& fidelity = conversion.fidelity().at(layer);
    EXPECT_GT(fidelity.keys.cosine_after, fidelity.keys.cosine_before);
    EXPECT_GT(fidelity.values.cosine_after, fidelity.values.cosine_before + 0.1);
  }
  EXPECT_LE(relative_error(turned.losses(), source.losses()), tolerance);
}

TEST(AlignedConversion, AlignmentAloneChangesNoOutput) {
  for (const Variant& source : sources()) {
    SCOPED_TRACE(source.name);
    expect_alignment_changes_nothing(source.config, DType::kF64, 1e-12);
    expect_alignment_changes_nothing(source.config, DType::kF32, 1e-5);
  }
}

// With norms of unequal weights no key may turn; values still do.
TEST(AlignedConversion, NormsOfUnequalWeightsKeepTheKeys) {
  ModelConfig config = testing::small_config();
  config.qk_norm = true;
  WholeModel source(config, DType::kF64);
  source.randomize_vectors();
  GroupedQueryConversion conversion(config, plan_pooling(config, 4, PoolingMethod::kAligned, 0),
                                    nullptr);
  const AttentionTensors before = source.attention(0);
  conversion.prepare(0, before);
  EXPECT_EQ(conversion.fidelity().at(0).aligned_key_dimensions, 0);
  EXPECT_TRUE(testing::bitwise_equal(conversion.aligned(0, before).at("k_proj.weight"),
                                     before.at("k_proj.weight")));
}

// The source's losses after conversion to two groups.
Tensor converted_losses(WholeModel& source, PoolingMethod method,
                        const AttentionInputs* inputs = nullptr) {
  const ModelConfig& config = source.model.config();
  GroupedQueryConversion conversion(config, plan_pooling(config, 2, method, 0), inputs);
  ModelConfig smaller = config;
  smaller.num_query_groups = 2;
  WholeModel child(smaller, source.store.segments().front().parameter->value.dtype());
  child.copy_from(source);
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const AttentionTensors weights = source.attention(layer);
    conversion.prepare(layer, weights);
    AttentionTensors replaced;
    for (const auto& [name, tensor] : weights) {
      if (conversion.replaces(name)) replaced[name] = tensor;
    }
    child.set_attention(layer, conversion.convert(layer, replaced, TensorRole::kWeights));
  }
  return child.losses();
}

// Gives the groups that will be one the first one's keys and values.
void tie_groups(WholeModel& source) {
  const ModelConfig& config = source.model.config();
  const std::int64_t rows = config.head_dim(), members = config.groups() / 2;
  for (Parameter* parameter : source.model.parameters()) {
    if (!is_key_or_value_projection(parameter->name)) continue;
    for (std::int64_t group = 0; group < config.groups(); ++group) {
      const std::int64_t first = group / members * members;
      parameter->value.row_slice(group * rows, (group + 1) * rows)
          .copy_from(parameter->value.row_slice(first * rows, (first + 1) * rows));
    }
  }
}

TEST(Conversion, EqualHeadsLoseNothingByAnyMethod) {
  for (const Variant& source : sources()) {
    for (const PoolingMethod method : kDeterministic) {
      WholeModel model(source.config);
      model.randomize_vectors();
      tie_groups(model);
      EXPECT_LE(relative_error(converted_losses(model, method), model.losses()), 1e-6)
          << source.name << ", method " << static_cast<int>(method);
    }
  }
}

// Turns every head of a model in ways that change no output.
void hide_heads(WholeModel& model) {
  const ModelConfig& config = model.model.config();
  const std::int64_t rotary = config.rotates() ? rotary_dim(config) : 0;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    AttentionTensors tensors = model.attention(layer);
    const auto norm = [&](const char* name) {
      return config.qk_norm ? tensors.at(name) : Tensor();
    };
    const RotationFreedom key_turns =
        key_freedom(config.head_dim(), rotary, norm("q_norm.weight"), norm("k_norm.weight"));
    std::vector<Tensor> keys, values;
    for (std::int64_t group = 0; group < config.groups(); ++group) {
      const auto random = [&](const std::string& name, const RotationFreedom& freedom) {
        return best_rotation(
            testing::random_tensor({config.head_dim(), config.head_dim()}, DType::kF64,
                                   name + std::to_string(layer) + "." + std::to_string(group)),
            freedom);
      };
      keys.push_back(random("k", key_turns));
      values.push_back(random("v", value_freedom(config.head_dim())));
    }
    for (auto& [name, tensor] : tensors) {
      if (name.starts_with("q_proj") || name.starts_with("k_proj")) {
        tensor = rotated_rows(tensor, keys);
      } else if (name.starts_with("v_proj")) {
        tensor = rotated_rows(tensor, values);
      } else if (name == "o_proj.weight") {
        tensor = rotated_columns(tensor, values);
      }
    }
    model.set_attention(layer, tensors);
  }
}

TEST(AlignedConversion, RecoversHiddenRotations) {
  for (const Variant& source : sources()) {
    SCOPED_TRACE(source.name);
    WholeModel model(source.config, DType::kF64);
    model.randomize_vectors();
    make_norms_partly_even(model);
    tie_groups(model);
    const Tensor before = model.losses();
    hide_heads(model);
    const Tensor losses = model.losses();
    ASSERT_LE(relative_error(losses, before), 1e-12);
    for (const PoolingMethod method : {PoolingMethod::kAligned, PoolingMethod::kAlignedRenorm}) {
      EXPECT_LE(relative_error(converted_losses(model, method), losses), 1e-10);
    }
    EXPECT_GT(relative_error(converted_losses(model, PoolingMethod::kMean), losses), 1e-3);
  }
}

double norm_of_rows(const Tensor& x, std::int64_t begin, std::int64_t end) {
  double sum = 0;
  for (std::int64_t row = begin; row < end; ++row) {
    for (std::int64_t col = 0; col < x.cols(); ++col) sum += std::pow(testing::at(x, row, col), 2);
  }
  return std::sqrt(sum);
}

TEST(AlignedConversion, RenormalizationGivesTheMembersMeanNorm) {
  const ModelConfig config = testing::small_config();
  WholeModel source(config, DType::kF64);
  const AttentionTensors weights = source.attention(1);
  const auto convert = [&](PoolingMethod method) {
    GroupedQueryConversion conversion(config, plan_pooling(config, 2, method, 0), nullptr);
    conversion.prepare(1, weights);
    const double ratio = conversion.fidelity().at(1).keys.norm_ratio;
    return std::pair(conversion.convert(1, weights, TensorRole::kWeights), ratio);
  };
  const auto [plain, plain_ratio] = convert(PoolingMethod::kAligned);
  const auto [scaled, scaled_ratio] = convert(PoolingMethod::kAlignedRenorm);
  EXPECT_LT(plain_ratio, 0.95);
  EXPECT_NEAR(scaled_ratio, 1, 1e-12);
  const std::int64_t rows = config.head_dim();
  for (const char* name : {"k_proj.weight", "v_proj.weight"}) {
    for (std::int64_t group = 0; group < 2; ++group) {
      double mean = 0;
      for (std::int64_t head = 4 * group; head < 4 * group + 4; ++head) {
        mean += norm_of_rows(weights.at(name), head * rows, (head + 1) * rows) / 4;
      }
      const double norm = norm_of_rows(scaled.at(name), group * rows, (group + 1) * rows);
      EXPECT_NEAR(norm, mean, 1e-12 * mean);
      // The same directions as without.
      const double factor = norm / norm_of_rows(plain.at(name), group * rows, (group + 1) * rows);
      EXPECT_NEAR(testing::at(scaled.at(name), group * rows + 1, 2),
                  factor * testing::at(plain.at(name), group * rows + 1, 2), 1e-12);
    }
  }
}

AttentionTensors projections_of_keys_and_values(const AttentionTensors& weights) {
  return {{"k_proj.weight", weights.at("k_proj.weight")},
          {"v_proj.weight", weights.at("v_proj.weight")}};
}

TEST(Conversion, MedoidTakesKeysAndValuesOfOneMember) {
  const ModelConfig config = testing::small_config();
  WholeModel source(config);
  AttentionTensors weights = source.attention(0);
  const std::int64_t rows = config.head_dim();
  // Head 2 of the first four lies between its neighbours, head 5 of the others.
  for (const char* name : {"k_proj.weight", "v_proj.weight"}) {
    for (const std::int64_t middle : {2, 5}) {
      Tensor centre = Tensor::zeros({rows, config.hidden_size}, DType::kF32);
      for (std::int64_t head = middle / 4 * 4; head < middle / 4 * 4 + 4; ++head) {
        if (head == middle) continue;
        for (std::int64_t i = 0; i < centre.numel(); ++i) {
          centre.data<float>()[i] += weights.at(name).data<float>()[head * centre.numel() + i] / 3;
        }
      }
      weights.at(name).row_slice(middle * rows, (middle + 1) * rows).copy_from(centre);
    }
  }
  GroupedQueryConversion conversion(config, plan_pooling(config, 2, PoolingMethod::kMedoid, 0),
                                    nullptr);
  conversion.prepare(0, weights);
  const AttentionTensors pooled =
      conversion.convert(0, projections_of_keys_and_values(weights), TensorRole::kWeights);
  for (const auto& [name, tensor] : pooled) {
    EXPECT_TRUE(testing::bitwise_equal(tensor.row_slice(0, rows),
                                       weights.at(name).row_slice(2 * rows, 3 * rows)));
    EXPECT_TRUE(testing::bitwise_equal(tensor.row_slice(rows, 2 * rows),
                                       weights.at(name).row_slice(5 * rows, 6 * rows)));
  }
}

TEST(AlignedConversion, MomentsFollowTheWeights) {
  const ModelConfig config = testing::small_config();
  WholeModel source(config, DType::kF64);
  const AttentionTensors weights = source.attention(0);
  GroupedQueryConversion conversion(config, plan_pooling(config, 2, PoolingMethod::kAligned, 0),
                                    nullptr);
  conversion.prepare(0, weights);
  const AttentionTensors turned = conversion.convert(0, weights, TensorRole::kWeights);
  const AttentionTensors momentum = conversion.convert(0, weights, TensorRole::kMomentum);
  AttentionTensors squares = weights;
  for (auto& [name, tensor] : squares) {
    tensor = tensor.clone();
    for (std::int64_t i = 0; i < tensor.numel(); ++i)
      tensor.data<double>()[i] *= tensor.data<double>()[i];
  }
  const AttentionTensors second = conversion.convert(0, squares, TensorRole::kSecondMoments);
  for (const char* name : {"q_proj.weight", "o_proj.weight"}) {
    EXPECT_TRUE(testing::bitwise_equal(momentum.at(name), turned.at(name)));
    double before = 0, after = 0;
    for (std::int64_t i = 0; i < squares.at(name).numel(); ++i) {
      before += squares.at(name).data<double>()[i];
      after += second.at(name).data<double>()[i];
      EXPECT_GE(second.at(name).data<double>()[i], 0);
    }
    EXPECT_NEAR(after, before, 1e-12 * before);
    EXPECT_GT(relative_error(second.at(name), squares.at(name)), 0.01);
  }
  for (const char* name : {"k_proj.weight", "v_proj.weight"}) {
    EXPECT_EQ(second.at(name).shape()[0], 2 * config.head_dim());
    EXPECT_EQ(testing::max_abs(second.at(name)), 0);
    EXPECT_EQ(testing::max_abs(momentum.at(name)), 0);
  }
}

// Heads agree, but for a rotation, on inputs that the text has, and but for another rotation on
// larger weights of inputs that it has not.
TEST(AlignedConversion, TheTextDecidesWhatIsAligned) {
  ModelConfig config = testing::small_config();
  config.num_layers = 1;
  WholeModel source(config, DType::kF64);
  constexpr std::int64_t kSeen = 8;  // inputs
  tie_groups(source);
  AttentionTensors unseen = source.attention(0);
  hide_heads(source);
  AttentionTensors weights = source.attention(0);
  for (const char* name : {"k_proj.weight", "v_proj.weight"}) {
    Tensor& tensor = weights.at(name);
    for (std::int64_t row = 0; row < tensor.rows(); ++row) {
      for (std::int64_t col = kSeen; col < tensor.cols(); ++col) {
        tensor.data<double>()[row * tensor.cols() + col] =
            5 * testing::at(unseen.at(name), row, col);
      }
    }
  }
  source.set_attention(0, weights);
  Tensor embedding = source.parameter("model.embed_tokens.weight").value;
  for (std::int64_t row = 0; row < embedding.rows(); ++row) {
    for (std::int64_t col = kSeen; col < embedding.cols(); ++col) {
      embedding.data<double>()[row * embedding.cols() + col] = 0;
    }
  }

  const CalibrationBatch batch{WholeModel::tokens(), WholeModel::tokens(), WholeModel::kBatch};
  const AttentionInputs inputs = attention_inputs(source.model, Device::kCpu, std::span(&batch, 1));
  const Tensor losses = source.losses();
  EXPECT_LE(relative_error(converted_losses(source, PoolingMethod::kAligned, &inputs), losses),
            1e-8);
  EXPECT_GT(relative_error(converted_losses(source, PoolingMethod::kAligned), losses), 1e-3);
}

TEST(Conversion, AMissingProjectionIsNamed) {
  const ModelConfig config = testing::small_config();
  WholeModel source(config);
  AttentionTensors weights = source.attention(0);
  weights.erase("v_proj.weight");
  GroupedQueryConversion conversion(config, plan_pooling(config, 2, PoolingMethod::kAligned, 0),
                                    nullptr);
  EXPECT_THAT(testing::error_of([&] { conversion.prepare(0, weights); }),
              ::testing::HasSubstr("model.layers.0.self_attn.v_proj.weight is missing"));
}

}  // namespace
}  // namespace polyhead
