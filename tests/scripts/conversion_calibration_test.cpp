// Conversions that are calibrated on a text, from a trained checkpoint to the report.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/checkpoint_folder.h"
#include "scripts/conversion_calibration.h"
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

class CalibratedConversion : public ::testing::Test {
 protected:
  CalibratedConversion() {
    run_.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      testing::train_for(trainer, 3);
      trainer.save();
    });
  }

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
