#include "scripts/convert_latent.h"

#include <memory>

#include "layers/conversion/latent_attention_conversion.h"
#include "layers/huggingface/config_json.h"
#include "scripts/conversion_calibration.h"
#include "scripts/latent_report.h"
#include "scripts/write_converted.h"

namespace polyhead {
namespace {

std::optional<LatentTarget> target_of(const ConvertOptions& options) {
  if (!options.kv_lora_rank && !options.rope_dim) {
    require(!options.q_lora_rank,
            "--q-lora-rank {}: queries are compressed together with keys and values; give "
            "--kv-lora-rank and --rope-dim too, or leave it out",
            options.q_lora_rank.value_or(0));
    return std::nullopt;
  }
  require(options.kv_lora_rank && options.rope_dim,
          "--kv-lora-rank and --rope-dim belong together; give both, or neither for a conversion "
          "that loses nothing");
  return LatentTarget{*options.kv_lora_rank, *options.rope_dim, options.q_lora_rank};
}

std::string method_of(const ModelConfig& model, bool exact) {
  const std::string query =
      model.q_lora_rank ? fmt::format(", q_lora_rank {}", *model.q_lora_rank) : "";
  return fmt::format("{} with kv_lora_rank {}, {} rotary dimensions{}{}", attention_variant(model),
                     *model.kv_lora_rank, *model.qk_pos_emb_head_dim, query,
                     exact ? ", exact" : "");
}

}  // namespace

std::string convert_to_latent(const ConvertOptions& options, const ModelSource& source,
                              const TrainConfig& config) {
  const std::optional<LatentTarget> target = target_of(options);
  // What is wrong with the request shows before the text is read.
  auto conversion = std::make_unique<LatentAttentionConversion>(config.model, target, nullptr);
  TrainConfig result = config;
  result.model = conversion->config_after(LatentStage::kNorm);
  result = resolved(result);
  for (const RuleViolation& broken : model_rule_violations(result.model, 1)) {
    fail("--to mla: {}: {}", broken.key, broken.message);
  }
  std::unique_ptr<ConversionCalibration> calibration;
  LatentReport report{.method = method_of(result.model, !target)};
  if (options.calibration_dataset) {
    calibration = std::make_unique<ConversionCalibration>(source, *options.calibration_dataset,
                                                          options.calibration_tokens);
    conversion =
        std::make_unique<LatentAttentionConversion>(config.model, target, &calibration->inputs());
    report.dataset = calibration->dataset();
  }

  const auto write_report = [&](const std::filesystem::path& folder) {
    report.layers = conversion->kept();
    const auto compare_stage = [&](const char* name, LatentStage stage) {
      report.stages.push_back(
          {name, calibration->compare_with(conversion->config_after(stage),
                                           [&](std::int64_t layer) -> const AttentionTensors& {
                                             return conversion->tensors_after(stage, layer);
                                           })});
    };
    if (calibration && target) {
      compare_stage("rotation", LatentStage::kRotation);
      compare_stage("rank", LatentStage::kRank);
    }
    if (calibration) {
      report.stages.push_back(
          {target ? "norm" : "result", calibration->compare_with(result.model, folder)});
    }
    return latent_json(report);
  };
  const std::string method = calibration && target
                                 ? fmt::format("{}, calibrated on {} tokens of {}", report.method,
                                               calibration->tokens(), calibration->dataset())
                                 : report.method;
  write_converted(source, options.destination, conversion.get(), result, method, write_report);
  return fmt::format("converted {} ({}, {} groups) to {} ({}, {})\n{}", source.folder.string(),
                     attention_variant(config.model), config.model.groups(),
                     options.destination.string(), method, huggingface_model_type(result.model),
                     latent_table(report));
}

}  // namespace polyhead
