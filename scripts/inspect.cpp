// polyhead inspect: what a configuration or a checkpoint means.
#include <fmt/format.h>
#include <omp.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "framework/checkpoint/checkpoint_folder.h"
#include "framework/error.h"
#include "scripts/commands.h"
#include "scripts/inspection_report.h"
#include "scripts/memory_estimate.h"
#include "scripts/model_source.h"
#include "scripts/rank_0.h"
#include "scripts/train_config_fields.h"
#include "scripts/uptraining.h"

namespace polyhead {
namespace {

struct Arguments {
  std::string source;
  std::vector<std::string> overrides;
  std::optional<int> tensor_parallel_size;
  std::optional<std::int64_t> context;
  bool memory = false;
  int data_parallel_size = 1;
  std::optional<DeviceChoice> device;
};

TrainConfig read_config(const Arguments& arguments) {
  if (!std::filesystem::is_directory(arguments.source)) {
    return load_train_config(arguments.source, arguments.overrides, std::nullopt);
  }
  require(arguments.overrides.empty(), "--set: changes a file's keys, not those of a checkpoint");
  if (!is_plain_model_folder(arguments.source)) {
    const std::filesystem::path folder = resolve_checkpoint(arguments.source);
    return parse_resolved_config(read_trainer_state(folder).config,
                                 (folder / "trainer.json").string() + ": config");
  }
  const ModelSource source = open_model_source(arguments.source);
  require(!arguments.memory,
          "--memory: {} has no trainer.json, which says how it is trained; write a configuration "
          "with uptrain.source and inspect the run's checkpoint",
          arguments.source);
  TrainConfig config;
  config.model = source.model;
  config.data.sequence_length = source.sequence_length;
  return config;
}

// With uptrain the model is that of the source.
TrainConfig with_model(TrainConfig config, const std::string& file) {
  if (!config.awaits_source()) return config;
  std::filesystem::path folder;
  try {
    folder = resolve_checkpoint(config.uptrain->source);
  } catch (const Error& error) {
    fail("{}: takes its model from uptrain.source: {}", file, error.what());
  }
  const TrainerState state = read_trainer_state(folder);
  const TrainConfig source =
      parse_resolved_config(state.config, (folder / "trainer.json").string() + ": config");
  return complete_uptraining(std::move(config), source, state.step);
}

// Nothing where nothing is distilled.
std::optional<ModelConfig> teacher_of(const TrainConfig& config, int ranks) {
  if (!config.distillation()) return std::nullopt;
  const ModelSource source = open_model_source(config.distillation()->from);
  require(model_rule_violations(source.model, ranks).empty(),
          "uptrain.distill.from: {} cannot be split over {} ranks; use a smaller --tp",
          source.folder.string(), ranks);
  return source.model;
}

void run(const Arguments& arguments) {
  const TrainConfig config = with_model(read_config(arguments), arguments.source);
  InspectionOptions options;
  options.source = arguments.source;
  options.tensor_parallel_size = arguments.tensor_parallel_size.value_or(
      static_cast<int>(config.parallel.tensor_model_parallel_size));
  options.context = arguments.context.value_or(config.data.sequence_length);
  const std::string report = inspection_report(config.model, options);
  for (const RuleViolation& warning : train_config_warnings(config)) {
    fmt::print(stderr, "warning: {}: {}: {}\n", arguments.source, warning.key, warning.message);
  }
  fmt::print("{}", report);
  if (!arguments.memory) return;
  const Compute compute =
      planned_compute(arguments.device.value_or(config.training.device), config.training.precision);
  const int ranks = options.tensor_parallel_size;
  const std::optional<ModelConfig> teacher = teacher_of(config, ranks);
  fmt::print("\n{}",
             memory_table(estimate_memory(config, compute, ranks, arguments.data_parallel_size,
                                          omp_get_max_threads(), teacher ? &*teacher : nullptr),
                          compute, ranks));
}

}  // namespace

void add_inspect_command(CLI::App& app, const Communicator& world) {
  CLI::App* command = app.add_subcommand(
      "inspect", "Say what a configuration or checkpoint means: attention, shapes, sizes, memory");
  const auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("source", arguments->source,
                   "A configuration, a checkpoint, a run folder, or a model folder")
      ->required();
  command->add_option("--set", arguments->overrides, "section.key=value, over the file's")
      ->take_all()
      ->allow_extra_args(false);
  command->add_option("--tp", arguments->tensor_parallel_size,
                      "Tensor-parallel ranks (default: the configuration's)");
  command->add_option("--context", arguments->context,
                      "Tokens in the KV cache (default: the sequence length)");
  CLI::Option* const memory =
      command->add_flag("--memory", arguments->memory,
                        "Predict the memory of a training step's tensors on each rank");
  command
      ->add_option("--device", arguments->device,
                   "Of --memory, also where it is not there (default: training.device)")
      ->needs(memory)
      ->transform(CLI::CheckedTransformer(values_by_name<DeviceChoice>()));
  command
      ->add_option("--dp", arguments->data_parallel_size,
                   "Of --memory: data-parallel ranks, which share the state of a distributed "
                   "optimizer (default: 1)")
      ->needs(memory)
      ->check(CLI::PositiveNumber);
  command->callback([arguments, &world] { run_on_rank_0(world, [&] { run(*arguments); }); });
}

}  // namespace polyhead
