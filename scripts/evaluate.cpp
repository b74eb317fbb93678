// polyhead evaluate: perplexities of checkpoints on one text, side by side.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>

#include "framework/files/durable_file.h"
#include "scripts/commands.h"
#include "scripts/evaluation_report.h"
#include "scripts/train_config_fields.h"

namespace polyhead {
namespace {

const std::map<std::string, WindowMethod> kMethods = {{"strided", WindowMethod::kStrided},
                                                      {"hf_strided", WindowMethod::kHfStrided},
                                                      {"rolling", WindowMethod::kRolling},
                                                      {"megatron", WindowMethod::kMegatron}};

struct Arguments {
  std::vector<std::string> checkpoints;
  std::string data;
  std::string method = "strided";
  EvaluationOptions options;
  std::string out;
};

void run(Arguments arguments, const Communicator& world) {
  arguments.options.method = kMethods.at(arguments.method);
  const std::filesystem::path folder = std::filesystem::path(arguments.out).parent_path();
  require(folder.empty() || std::filesystem::is_directory(folder),
          "--out {}: there is no folder {}; make it first", arguments.out, folder.string());
  std::optional<IndexedDataset> dataset;
  run_on_all_ranks(world, [&] {
    dataset.emplace(arguments.data);
    if (world.rank() == 0) dataset->fingerprint();  // refuses altered files
  });
  std::vector<CheckpointEvaluation> evaluations;
  for (const std::string& checkpoint : arguments.checkpoints) {
    evaluations.push_back(evaluate_checkpoint(checkpoint, *dataset, arguments.options, world));
  }
  const EvaluationSetting setting{arguments.data, arguments.method};
  run_on_all_ranks(world, [&] {
    if (world.rank() != 0) return;
    const std::string table = evaluation_table(setting, evaluations);
    fmt::print("{}", table);
    if (arguments.out.empty()) return;
    replace_durably(arguments.out + ".md", table);
    replace_durably(arguments.out + ".json", evaluation_json(setting, evaluations));
  });
}

}  // namespace

void add_evaluate_command(CLI::App& app, const Communicator& world) {
  CLI::App* command =
      app.add_subcommand("evaluate", "Score checkpoints on a tokenized text, side by side");
  const auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("checkpoints", arguments->checkpoints,
                   "Checkpoints, run folders, or model folders")
      ->required();
  command->add_option("--data", arguments->data, "Prefix of the dataset: PREFIX.bin, PREFIX.idx")
      ->required();
  command
      ->add_option("--windows", arguments->method,
                   "strided (exact mean), hf_strided, rolling (every token, disjoint; "
                   "lm-evaluation-harness), megatron")
      ->check(CLI::IsMember(kMethods));
  command->add_option("--context", arguments->options.context,
                      "Tokens of a window (default: the sequence length of training)");
  command->add_option("--stride", arguments->options.stride,
                      "Tokens between windows (default: half the context; the context: disjoint, "
                      "which skips tokens and so gives no bits per byte)");
  command->add_option("--tp", arguments->options.inference.tensor_parallel_size,
                      "Tensor-parallel ranks");
  command->add_option("--device", arguments->options.inference.device, "Where to compute")
      ->transform(CLI::CheckedTransformer(values_by_name<DeviceChoice>()));
  command
      ->add_option("--precision", arguments->options.inference.precision,
                   "In what to compute; auto: bf16 on CUDA")
      ->transform(CLI::CheckedTransformer(values_by_name<Precision>()));
  command->add_option("--out", arguments->out, "Write OUT.md and OUT.json too");
  command->callback([arguments, &world] { run(*arguments, world); });
}

}  // namespace polyhead
