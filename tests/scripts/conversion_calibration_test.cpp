// Conversions that are calibrated on a text, from a trained checkpoint to the report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/checkpoint_folder.h"
#include "framework/checkpoint/safetensors_reader.h"
#include "scripts/conversion_calibration.h"
#include "scripts/conversion_report.h"
#include "scripts/convert.h"
#include "tests/support/compare.h"
#include "tests/support/training_run.h"
#include "tests/support/whole_model.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

using testing::error_of;
using ::testing::HasSubstr;
using testing::read_file;
using testing::TrainingRun;

constexpr std::int64_t kContext = 6;

TEST(CalibrationText, IsSpreadOverAllDocuments) {
  const TrainingRun run;
  // 61 documents of 40 tokens: six windows of 6 inputs with their targets, then one of 3.
  const IndexedDataset dataset(run.config.data.train[0].path);
  const std::vector<CalibrationBatch> all = calibration_text(dataset, kContext, 1 << 20, 37);
  std::int64_t tokens = 0;
  for (const CalibrationBatch& batch : all) tokens += batch.tokens.numel();
  EXPECT_EQ(tokens, 61 * (6 * 6 + 3));

  const std::vector<CalibrationBatch> some = calibration_text(dataset, kContext, 300, 37);
  std::int64_t chosen = 0;
  for (const CalibrationBatch& batch : some) {
    chosen += batch.tokens.numel();
    const std::int64_t length = batch.tokens.numel() / batch.sequences;
    for (std::int64_t i = 0; i < batch.tokens.numel(); ++i) {
      if (i % length + 1 == length) continue;
      EXPECT_EQ(batch.targets.data<std::int32_t>()[i], batch.tokens.data<std::int32_t>()[i + 1]);
    }
  }
  EXPECT_GT(chosen, 200);
  EXPECT_LE(chosen, 306);
  EXPECT_THAT(error_of([&] { calibration_text(dataset, kContext, 0, 37); }),
              HasSubstr("--calibration-tokens 0"));
}

// Against the definitions, token by token.
TEST(ModelFidelity, FollowsItsDefinition) {
  testing::WholeModel parent(testing::small_config(), DType::kF64);
  testing::WholeModel child(testing::small_config(), DType::kF64);
  child.copy_from(parent);
  const CalibrationBatch batch{testing::WholeModel::tokens(),
                               testing::token_ids(parent.kBatch * parent.kLength, 37, "targets"),
                               parent.kBatch};
  const ModelFidelity same =
      model_fidelity(parent.model, child.model, Device::kCpu, std::span(&batch, 1));
  EXPECT_EQ(same.divergence, 0);
  EXPECT_EQ(same.child_perplexity, same.parent_perplexity);
  EXPECT_EQ(same.attention_errors, (std::vector<double>{0, 0}));

  // Half the output of one layer's attention: the error of that layer is a half, of none other any.
  Tensor& weight = child.parameter("model.layers.0.self_attn.o_proj.weight").value;
  for (std::int64_t i = 0; i < weight.numel(); ++i) weight.data<double>()[i] /= 2;
  const ModelFidelity half =
      model_fidelity(parent.model, child.model, Device::kCpu, std::span(&batch, 1));
  EXPECT_EQ(half.tokens, 27);
  EXPECT_NEAR(half.attention_errors[0], 0.5, 1e-12);
  EXPECT_EQ(half.attention_errors[1], 0);

  const auto probabilities = [&](const testing::WholeModel& model) {
    Tensor p = model.model.output_loss().logits(model.model.infer(batch.tokens, parent.kBatch));
    for (std::int64_t row = 0; row < p.rows(); ++row) {
      double sum = 0;
      for (std::int64_t i = 0; i < 37; ++i) sum += std::exp(testing::at(p, row, i));
      for (std::int64_t i = 0; i < 37; ++i) {
        p.data<double>()[row * 37 + i] = std::exp(testing::at(p, row, i)) / sum;
      }
    }
    return p;
  };
  const Tensor p = probabilities(parent), q = probabilities(child);
  double divergence = 0, loss = 0;
  for (std::int64_t row = 0; row < 27; ++row) {
    for (std::int64_t i = 0; i < 37; ++i) {
      divergence +=
          testing::at(p, row, i) * std::log(testing::at(p, row, i) / testing::at(q, row, i)) / 27;
    }
    loss -= std::log(testing::at(q, row, batch.targets.data<std::int32_t>()[row])) / 27;
  }
  EXPECT_GT(divergence, 1e-3);
  EXPECT_NEAR(half.divergence, divergence, 1e-12);
  EXPECT_NEAR(half.child_perplexity, std::exp(loss), 1e-10);
}

void train(const TrainingRun& run) {
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    testing::train_for(trainer, 3);
    trainer.save();
  });
}

class CalibratedConversion : public ::testing::Test {
 protected:
  CalibratedConversion() { train(run_); }

  nlohmann::json converted(ConvertOptions options, const std::string& name) {
    options.source = run_.checkpoint(3);
    options.calibration_dataset = run_.config.data.validation[0].path;
    options.destination = run_.folder() / name;
    text_ = convert(options);
    verify_checkpoint(options.destination);
    return nlohmann::json::parse(read_file(options.destination / "conversion.json"));
  }

  TrainingRun run_;
  std::string text_;
};

TEST_F(CalibratedConversion, ReportsWhatItDidToTheModel) {
  const auto measured = [&](PoolingMethod method, const std::string& name) {
    return converted({.source = {}, .to = "gqa", .groups = 2, .method = method, .destination = {}},
                     name);
  };
  const nlohmann::json same =
      converted({.source = {}, .to = "gqa", .groups = 8, .destination = {}}, "same")["calibration"];
  EXPECT_EQ(same["divergence"], 0.0);
  EXPECT_EQ(same["perplexity_before"], same["perplexity_after"]);

  const nlohmann::json mean = measured(PoolingMethod::kMean, "mean");
  const nlohmann::json aligned = measured(PoolingMethod::kAligned, "aligned");
  EXPECT_EQ(mean["calibration"]["perplexity_before"], same["perplexity_before"]);
  EXPECT_EQ(mean["calibration"]["tokens"], 7 * 39);
  EXPECT_GT(mean["calibration"]["divergence"], 0.0);
  for (int layer = 0; layer < 2; ++layer) {
    const auto values = [&](const nlohmann::json& report) {
      return report["layers"][layer]["values"]["relative_error"].get<double>();
    };
    const auto attention = [&](const nlohmann::json& report) {
      return report["calibration"]["attention_relative_errors"][layer].get<double>();
    };
    EXPECT_LT(values(aligned), values(mean));
    EXPECT_LT(attention(aligned), attention(mean));
  }
  EXPECT_THAT(text_, HasSubstr("perplexity"));
  EXPECT_THAT(text_, HasSubstr("GQA with 2 groups, aligned, calibrated on 273 tokens of"));
}

double sum_of_powers(const Tensor& x, int power) {
  double sum = 0;
  for (std::int64_t i = 0; i < x.numel(); ++i) sum += std::pow(x.data<float>()[i], power);
  return sum;
}

TEST_F(CalibratedConversion, EveryFileIsTurnedTheSameWay) {
  converted({.source = {},
             .to = "gqa",
             .groups = 2,
             .method = PoolingMethod::kAligned,
             .destination = {}},
            "aligned");
  const auto pair_of = [&](const std::string& stem, const std::string& name) {
    const std::string parameter = "model.layers.1." + name;
    return std::pair(SafetensorsReader(run_.checkpoint(3), stem).read(parameter),
                     SafetensorsReader(run_.folder() / "aligned", stem).read(parameter));
  };
  for (const std::string name : {"self_attn.q_proj.weight", "self_attn.o_proj.weight"}) {
    for (const std::string stem : {"model", "optimizer/exp_avg", "optimizer/exp_avg_sq"}) {
      const auto [before, after] = pair_of(stem, name);
      const int power = stem == "optimizer/exp_avg_sq" ? 1 : 2;
      EXPECT_GT(sum_of_powers(before, power), 0);
      EXPECT_NEAR(sum_of_powers(after, power), sum_of_powers(before, power),
                  1e-5 * sum_of_powers(before, power));
      EXPECT_GT(testing::relative_error(after, before), 0.01) << stem << " " << name;
    }
  }
  const auto [before, after] = pair_of("optimizer/exp_avg", "self_attn.k_proj.weight");
  EXPECT_GT(testing::max_abs(before), 0);
  EXPECT_EQ(testing::max_abs(after), 0);
  const auto [mlp_before, mlp_after] = pair_of("optimizer/exp_avg", "mlp.down_proj.weight");
  EXPECT_TRUE(testing::bitwise_equal(mlp_before, mlp_after));
}

TEST_F(CalibratedConversion, WindowsAreComparedToo) {
  const nlohmann::json report =
      converted({.source = {}, .to = "swa", .window = 2, .destination = {}}, "swa");
  EXPECT_FALSE(report.contains("layers"));
  EXPECT_GT(report["calibration"]["divergence"], 0.0);
  EXPECT_GT(report["calibration"]["attention_relative_errors"][0], 0.0);
}

TEST_F(CalibratedConversion, TheExactLatentFormChangesNothing) {
  const nlohmann::json report = converted({.source = {}, .to = "mla", .destination = {}}, "exact");
  EXPECT_FALSE(report.contains("layers"));
  const nlohmann::json result = report["calibration"]["stages"][0];
  EXPECT_EQ(result["stage"], "result");
  EXPECT_NEAR(result["divergence"].get<double>(), 0, 1e-9);
  for (const double error : result["attention_relative_errors"]) EXPECT_LE(error, 1e-6);
}

TEST_F(CalibratedConversion, LatentsAreComparedStageByStage) {
  const nlohmann::json report = converted(
      {.source = {}, .to = "mla", .kv_lora_rank = 16, .rope_dim = 6, .destination = {}}, "mla");
  EXPECT_EQ(nlohmann::json::parse(read_file(run_.folder() / "mla/config.json"))["model_type"],
            "deepseek_v3");
  const nlohmann::json stages = report["calibration"]["stages"];
  ASSERT_EQ(stages.size(), 3U);
  const auto error = [&](int stage, int layer) {
    return stages[stage]["attention_relative_errors"][layer].get<double>();
  };
  for (int layer = 0; layer < 2; ++layer) {
    EXPECT_GT(error(0, layer), 0.0);
    EXPECT_GT(error(1, layer), error(0, layer));
    EXPECT_LT(error(1, layer), 0.9);
    EXPECT_NE(error(2, layer), error(1, layer));
    const double kept = report["layers"][layer]["kept_keys_and_values"];
    EXPECT_GT(kept, 0.5);
    EXPECT_LT(kept, 1.0);
  }
  EXPECT_THAT(text_, HasSubstr("norm: on 273 tokens of"));
  EXPECT_THAT(text_, HasSubstr("MLA with kv_lora_rank 16, 6 rotary dimensions, calibrated on"));
}

std::vector<testing::Variant> sources() {
  const ModelConfig mha = testing::small_config();
  using testing::variant;
  return {variant("gqa4", mha, [](ModelConfig& c) { c.num_query_groups = 4; }),
          variant("biases", mha, [](ModelConfig& c) { c.add_qkv_bias = true; }),
          variant("qk_norm", mha, [](ModelConfig& c) { c.qk_norm = true; }),
          variant("partial_rope", mha, [](ModelConfig& c) { c.rotary_percent = 2.0 / 3.0; }),
          variant("alibi", mha,
                  [](ModelConfig& c) { c.position_embedding = PositionEmbedding::kAlibi; }),
          variant("no_positions", mha,
                  [](ModelConfig& c) { c.position_embedding = PositionEmbedding::kNone; })};
}

// The child is read back for the comparison: no tensor is missing, none is left over.
TEST(ConversionOfCheckpoints, TakesEveryKindOfSource) {
  for (const testing::Variant& source : sources()) {
    SCOPED_TRACE(source.name);
    const TrainingRun run(source.config);
    train(run);
    const auto report_of = [&](ConvertOptions options, const std::string& name) {
      options.source = run.checkpoint(3);
      options.calibration_dataset = run.config.data.validation[0].path;
      options.destination = run.folder() / name;
      convert(options);
      return nlohmann::json::parse(read_file(options.destination / "conversion.json"));
    };
    const auto pooled = [&](PoolingMethod method, const std::string& name) {
      return report_of(
          {.source = {}, .to = "gqa", .groups = 2, .method = method, .destination = {}}, name);
    };
    const nlohmann::json mean = pooled(PoolingMethod::kMean, "mean");
    const nlohmann::json aligned = pooled(PoolingMethod::kAligned, "aligned");
    for (int layer = 0; layer < 2; ++layer) {
      for (const char* projection : {"keys", "values"}) {
        const auto error = [&](const nlohmann::json& report) {
          return report["layers"][layer][projection]["relative_error"].get<double>();
        };
        EXPECT_LE(error(aligned), error(mean)) << projection;
      }
    }
    EXPECT_LT(aligned["calibration"]["attention_relative_errors"][0].get<double>(),
              mean["calibration"]["attention_relative_errors"][0].get<double>());
    const nlohmann::json swa =
        report_of({.source = {}, .to = "swa", .window = 6, .destination = {}}, "swa");
    EXPECT_EQ(swa["calibration"]["divergence"], 0.0) << "as long as the sequences";
  }
}

TEST(ConversionReport, SaysWhichKeysCouldNotBeAligned) {
  ConversionReport report{.method = "GQA with 2 groups, aligned", .aligned = true, .head_dim = 6};
  report.layers[0] = {{0.5, 0.125, 0.25, 0.75}, {0.25, -0.5, 0.5, 1}, 6};
  EXPECT_THAT(conversion_table(report), HasSubstr("0.5000   0.125 -> 0.250   0.750"));
  EXPECT_THAT(conversion_table(report), HasSubstr("0.2500   -0.500 -> 0.500   1.000"));
  EXPECT_THAT(conversion_table(report), ::testing::Not(HasSubstr("q_norm")));
  report.layers[1] = {{}, {}, 2};
  EXPECT_THAT(conversion_table(report), HasSubstr("keys: 2 to 6 of 6 dimensions were aligned; "
                                                  "q_norm and k_norm weight the others"));
  EXPECT_EQ(nlohmann::json::parse(conversion_json(report))["layers"][1]["aligned_key_dimensions"],
            2);
  EXPECT_EQ(conversion_table({.method = "MHA+SWA"}), "");
}

TEST_F(CalibratedConversion, AnotherTokenizersTextIsRefused) {
  const std::string prefix = (run_.folder() / "other").string();
  IndexedDatasetWriter writer(prefix, 37);
  writer.add_document(std::vector<std::int32_t>{1, 2, 3});
  writer.finish({.tokenizer = "letters",
                 .tokenizer_file = {},
                 .tokenizer_fingerprint = "letters",
                 .vocab_size = 37,
                 .bin_xxh3 = {}});
  EXPECT_THAT(error_of([&] {
                convert({.source = run_.checkpoint(3),
                         .to = "mqa",
                         .calibration_dataset = prefix,
                         .destination = run_.folder() / "out"});
              }),
              HasSubstr("was made with another tokenizer (fingerprint letters)"));
  EXPECT_FALSE(fs::exists(run_.folder() / "out"));
}

}  // namespace
}  // namespace polyhead
