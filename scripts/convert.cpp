#include "scripts/convert.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>

#include "framework/checkpoint/checkpoint_folder.h"
#include "layers/conversion/grouped_query_conversion.h"
#include "scripts/conversion_calibration.h"
#include "scripts/conversion_report.h"
#include "scripts/convert_latent.h"
#include "scripts/rank_0.h"
#include "scripts/train_config.h"
#include "scripts/write_converted.h"

namespace polyhead {
namespace {

const std::map<std::string, PoolingMethod> kMethods = {
    {"mean", PoolingMethod::kMean},       {"first", PoolingMethod::kFirst},
    {"random", PoolingMethod::kRandom},   {"medoid", PoolingMethod::kMedoid},
    {"aligned", PoolingMethod::kAligned}, {"aligned-renorm", PoolingMethod::kAlignedRenorm}};

std::string name_of_method(PoolingMethod method) {
  for (const auto& [name, value] : kMethods) {
    if (value == method) return name;
  }
  return "";
}

std::int64_t target_groups(const ConvertOptions& options) {
  if (options.to == "mqa") {
    require(options.groups.value_or(1) == 1, "--groups {}: mqa has 1 group; use --to gqa",
            options.groups.value_or(1));
    return 1;
  }
  require(options.groups.has_value(), "--groups is missing: --to gqa needs the number of groups");
  return *options.groups;
}

// The files do not depend on the source's layout, but its configuration might no longer hold: six
// groups do not go with four ranks.
void fit_layout(TrainConfig& config) {
  ParallelConfig& parallel = config.parallel;
  if (model_rule_violations(config.model, parallel.tensor_model_parallel_size).empty()) return;
  parallel.tensor_model_parallel_size = 1;
  parallel.sequence_parallel = false;
}

void require_options_of_target(const ConvertOptions& options) {
  const bool window = options.to == "swa", latent = options.to == "mla";
  require(latent || !(options.kv_lora_rank || options.rope_dim || options.q_lora_rank),
          "--kv-lora-rank, --rope-dim and --q-lora-rank belong to --to mla; leave them out");
  require(!latent || !(options.groups || options.method || options.seed),
          "--to mla has no groups; leave out --groups, --method and --seed");
  require(!window || !(options.groups || options.method || options.seed),
          "--to swa keeps all weights; leave out --groups, --method and --seed");
  require(
      window || !(options.window || options.pattern),
      "--window and --pattern belong to --to swa; leave them out, and convert the result again");
  require(!window || options.window.has_value(),
          "--window is missing: --to swa needs the tokens that a query sees, its own included");
}

// What is to become of a checkpoint: the configuration of the result, how its weights are made
// (null: they stay), and in words.
struct Plan {
  TrainConfig config;
  std::unique_ptr<GroupedQueryConversion> conversion;
  ConversionReport report;
};

Plan plan_window(const ConvertOptions& options, const TrainConfig& source) {
  Plan plan{source, nullptr, {}};
  ModelConfig& model = plan.config.model;
  model.window_size = options.window;
  model.window_pattern.reset();
  if (options.pattern) model.window_pattern = WindowPattern{*options.pattern, {}};
  for (const RuleViolation& broken : model_rule_violations(model, 1)) {
    fail("--to swa: {}: {}", broken.key, broken.message);
  }
  plan.report.method = fmt::format(
      "{} with window {} on {}", attention_variant(model), *options.window,
      options.pattern ? fmt::format("all but every {}. layer", *options.pattern) : "all layers");
  return plan;
}

Plan plan_groups(const ConvertOptions& options, const TrainConfig& source,
                 const ConversionCalibration* calibration) {
  Plan plan{source, nullptr, {}};
  const PoolingMethod method = options.method.value_or(PoolingMethod::kMean);
  const KeyValuePooling pooling =
      plan_pooling(source.model, target_groups(options), method,
                   options.seed.value_or(static_cast<std::uint64_t>(source.training.seed)));
  plan.conversion = std::make_unique<GroupedQueryConversion>(
      source.model, pooling, calibration != nullptr ? &calibration->inputs() : nullptr);
  plan.config.model.num_query_groups = pooling.target_groups;
  fit_layout(plan.config);
  plan.report.aligned =
      method == PoolingMethod::kAligned || method == PoolingMethod::kAlignedRenorm;
  plan.report.head_dim = pooling.head_dim;
  plan.report.method = fmt::format("{} with {} group{}, {}", attention_variant(plan.config.model),
                                   pooling.target_groups, pooling.target_groups == 1 ? "" : "s",
                                   name_of_method(method));
  return plan;
}

std::unique_ptr<ConversionCalibration> calibrated(const ConvertOptions& options,
                                                  const ModelSource& source) {
  if (!options.calibration_dataset) return nullptr;
  return std::make_unique<ConversionCalibration>(source, *options.calibration_dataset,
                                                 options.calibration_tokens);
}

// Of another program's folder no more is known than the model and how long its sequences are.
TrainConfig config_of(const ModelSource& source) {
  if (source.trainer) {
    return parse_resolved_config(source.trainer->config,
                                 (source.folder / "trainer.json").string() + ": config");
  }
  TrainConfig config;
  config.model = source.model;
  config.data.sequence_length = source.sequence_length;
  return config;
}

}  // namespace

std::string convert(const ConvertOptions& options) {
  require_options_of_target(options);
  const ModelSource source = open_model_source(options.source);
  if (source.trainer) verify_checkpoint(source.folder);
  const TrainConfig config = config_of(source);
  if (options.to == "mla") return convert_to_latent(options, source, config);
  // What is wrong with the request shows before the text is read.
  const auto plan_with = [&](const ConversionCalibration* calibration) {
    return options.to == "swa" ? plan_window(options, config)
                               : plan_groups(options, config, calibration);
  };
  Plan plan = plan_with(nullptr);
  const auto calibration = calibrated(options, source);
  if (calibration) plan = plan_with(calibration.get());

  const auto report = [&](const std::filesystem::path& folder) {
    if (plan.conversion) plan.report.layers = plan.conversion->fidelity();
    if (calibration) {
      plan.report.dataset = calibration->dataset();
      plan.report.model = calibration->compare_with(plan.config.model, folder);
    }
    return conversion_json(plan.report);
  };
  const std::string method =
      calibration ? fmt::format("{}, calibrated on {} tokens of {}", plan.report.method,
                                calibration->tokens(), calibration->dataset())
                  : plan.report.method;
  write_converted(source, options.destination, plan.conversion.get(), plan.config, method, report);
  const std::string groups =
      config.model.is_latent() ? "" : fmt::format(", {} groups", config.model.groups());
  return fmt::format("converted {} ({}{}) to {} ({})\n{}", source.folder.string(),
                     attention_variant(config.model), groups, options.destination.string(), method,
                     conversion_table(plan.report));
}

void add_convert_command(CLI::App& app, const Communicator& world) {
  CLI::App* command = app.add_subcommand(
      "convert",
      "Change a checkpoint's attention: to fewer groups of keys and values, to latents, or to "
      "sliding windows");
  const auto options = std::make_shared<ConvertOptions>();
  command
      ->add_option("source", options->source,
                   "Checkpoint, run folder for its latest one, or another program's model folder")
      ->required();
  command
      ->add_option("--to", options->to,
                   "Attention of the result: gqa (MHA or GQA to fewer groups), mqa (to one group), "
                   "mla (MHA or GQA to latent attention: exactly, or with ranks compressed), swa "
                   "(sliding windows; the weights stay)")
      ->required()
      ->check(CLI::IsMember({"gqa", "mqa", "mla", "swa"}));
  command->add_option("--out", options->destination, "Folder of the result, which must not exist")
      ->required();
  command->add_option("--groups", options->groups,
                      "gqa: groups of the result, a divisor of the source's");
  std::vector<std::string> names;
  for (const auto& [name, _] : kMethods) names.push_back(name);
  command
      ->add_option_function<std::string>(
          "--method", [options](const std::string& name) { options->method = kMethods.at(name); },
          "gqa, mqa: how the heads of a group become one: mean (the default), first, random, "
          "medoid (the one nearest to the others), aligned (turned towards each other, which "
          "changes no output, then their mean), aligned-renorm (and scaled to their norm)")
      ->check(CLI::IsMember(names));
  command->add_option("--seed", options->seed, "random: seed of the draw (default: the source's)");
  command->add_option("--kv-lora-rank", options->kv_lora_rank,
                      "mla: rank of the latent of keys and values (default: exact)");
  command->add_option(
      "--rope-dim", options->rope_dim,
      "mla, with --kv-lora-rank: dimensions of the rotary key that all heads share, "
      "a divisor or a multiple of a head's");
  command->add_option("--q-lora-rank", options->q_lora_rank,
                      "mla, with --kv-lora-rank: rank of the queries' latent (default: whole)");
  command->add_option("--window", options->window,
                      "swa: tokens that a query sees, its own included");
  command->add_option("--pattern", options->pattern,
                      "swa: every n-th layer stays global (default: all slide)");
  command->add_option("--calibrate", options->calibration_dataset,
                      "Prefix of a dataset: weigh errors by what the heads do on this text, and "
                      "report the result's there, perplexity included");
  command
      ->add_option("--calibration-tokens", options->calibration_tokens,
                   "How much of it, spread evenly")
      ->capture_default_str()
      ->needs("--calibrate");
  command->callback([options, &world] {
    run_on_rank_0(world, [&] { std::printf("%s", convert(*options).c_str()); });
  });
}

}  // namespace polyhead
