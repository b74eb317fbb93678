#include "scripts/convert.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>
#include <memory>

#include "framework/checkpoint/checkpoint_folder.h"
#include "layers/conversion/convert_checkpoint.h"
#include "layers/huggingface/config_json.h"
#include "layers/huggingface/tensor_layout.h"
#include "scripts/rank_0.h"
#include "scripts/train_config.h"

namespace polyhead {
namespace {

const std::map<std::string, PoolingMethod> kMethods = {{"mean", PoolingMethod::kMean},
                                                       {"first", PoolingMethod::kFirst},
                                                       {"random", PoolingMethod::kRandom}};

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

}  // namespace

std::string convert(const ConvertOptions& options) {
  const std::filesystem::path source = resolve_checkpoint(options.source);
  const TrainerState state = verify_checkpoint(source);
  TrainConfig config =
      parse_resolved_config(state.config, (source / "trainer.json").string() + ": config");
  const std::string before = attention_variant(config.model);
  const TensorLayout source_layout = stored_layout(source, config.model);
  const KeyValuePooling pooling = plan_pooling(config.model, target_groups(options), options.method,
                                               options.seed.value_or(state.seed));
  config.model.num_query_groups = pooling.target_groups;
  fit_layout(config);

  const std::string after = attention_variant(config.model);
  const std::string method =
      fmt::format("{} with {} group{}, {}", after, pooling.target_groups,
                  pooling.target_groups == 1 ? "" : "s", name_of_method(options.method));
  convert_checkpoint(
      source, state, options.destination, pooling,
      {to_yaml(config), huggingface_config_json(config.model, config.data.sequence_length),
       source_layout, written_layout(config.model), method});
  return fmt::format("converted {} ({}, {} groups) to {} ({})", source.string(), before,
                     pooling.source_groups, options.destination.string(), method);
}

void add_convert_command(CLI::App& app, const Communicator& world) {
  CLI::App* command = app.add_subcommand(
      "convert", "Change a checkpoint's attention: MHA or GQA to fewer groups of keys and values");
  const auto options = std::make_shared<ConvertOptions>();
  command->add_option("source", options->source, "checkpoint, or run folder for its latest one")
      ->required();
  command->add_option("--to", options->to, "attention of the result: gqa, or mqa for one group")
      ->required()
      ->check(CLI::IsMember({"gqa", "mqa"}));
  command->add_option("--groups", options->groups,
                      "groups of the result, a divisor of the source's");
  command->add_option("--method", options->method, "how heads are pooled: mean, first or random")
      ->transform(CLI::CheckedTransformer(kMethods, CLI::ignore_case));
  command->add_option("--seed", options->seed, "of the method random; default: the source's seed");
  command->add_option("--out", options->destination, "folder of the result, which must not exist")
      ->required();
  command->callback([options, &world] {
    run_on_rank_0(world, [&] { std::printf("%s\n", convert(*options).c_str()); });
  });
}

}  // namespace polyhead
