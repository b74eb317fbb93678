// polyhead evaluate: perplexities of checkpoints on one text, side by side.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>

#include "framework/files/durable_file.h"
#include "scripts/commands.h"
#include "scripts/evaluation_report.h"
#include "scripts/rank_0.h"
#include "scripts/train_config_fields.h"

namespace polyhead {
namespace {

const std::map<std::string, WindowMethod> kMethods = {{"strided", WindowMethod::kStrided},
                                                      {"hf_strided", WindowMethod::kHfStrided},
                                                      {"rolling", WindowMethod::kRolling},
                                                      {"megatron", WindowMethod::kMegatron}};

struct Arguments {
  std::vector<std::string> checkpoints;
  std::vector<std::string> data;
  std::string method = "strided";
  EvaluationOptions options;
  std::string out;
};

// One dataset for each checkpoint; those of one prefix are opened once.
class Datasets {
 public:
  Datasets(const Arguments& arguments, const Communicator& world) {
    const std::size_t checkpoints = arguments.checkpoints.size();
    require(arguments.data.size() == 1 || arguments.data.size() == checkpoints,
            "--data was given {} times for {} checkpoints; give it once for all, or once for each "
            "in their order",
            arguments.data.size(), checkpoints);
    run_on_all_ranks(world, [&] {
      for (std::size_t i = 0; i < checkpoints; ++i) {
        const std::string& prefix = arguments.data[arguments.data.size() == 1 ? 0 : i];
        const auto [opened, is_new] = opened_.try_emplace(prefix, prefix);
        const IndexedDataset& dataset = opened->second;
        if (is_new && world.rank() == 0) dataset.fingerprint();  // refuses altered files
        by_checkpoint_.push_back(&dataset);
      }
      require_same_text(by_checkpoint_);
    });
  }

  const IndexedDataset& of_checkpoint(std::size_t i) const { return *by_checkpoint_[i]; }

 private:
  std::map<std::string, IndexedDataset> opened_;
  std::vector<const IndexedDataset*> by_checkpoint_;
};

void run(Arguments arguments, const Communicator& world) {
  arguments.options.method = kMethods.at(arguments.method);
  const std::filesystem::path folder = std::filesystem::path(arguments.out).parent_path();
  require(folder.empty() || std::filesystem::is_directory(folder),
          "--out {}: there is no folder {}; make it first", arguments.out, folder.string());
  const Datasets datasets(arguments, world);
  EvaluationReport report{arguments.method, {}, {}};
  for (std::size_t i = 0; i < arguments.checkpoints.size(); ++i) {
    report.evaluations.push_back(evaluate_checkpoint(
        arguments.checkpoints[i], datasets.of_checkpoint(i), arguments.options, world));
  }
  run_on_rank_0(world, [&] {
    report.comparisons = compare_with_first(report.evaluations);
    const std::string table = evaluation_table(report);
    fmt::print("{}", table);
    if (arguments.out.empty()) return;
    replace_durably(arguments.out + ".md", table);
    replace_durably(arguments.out + ".json", evaluation_json(report));
  });
}

}  // namespace

void add_evaluate_command(CLI::App& app, const Communicator& world) {
  CLI::App* command =
      app.add_subcommand("evaluate", "Score checkpoints on a tokenized text, side by side");
  const auto arguments = std::make_shared<Arguments>();
  command->add_option("checkpoints", arguments->checkpoints, "Checkpoints, or run folders")
      ->required();
  command
      ->add_option(
          "--data", arguments->data,
          "Prefix of the dataset: PREFIX.bin, PREFIX.idx; once for all checkpoints, or once "
          "for each: the same text by its own tokenizer")
      ->required()
      ->allow_extra_args(false);
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
  command->add_option("--prefix-token", arguments->options.prefix_token,
                      "rolling: what precedes a document's first token (default: the "
                      "end-of-document token)");
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
