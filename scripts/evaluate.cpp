// polyhead evaluate: checkpoints on one text, side by side.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>

#include "framework/error.h"
#include "framework/files/durable_file.h"
#include "scripts/commands.h"
#include "scripts/evaluation_report.h"
#include "scripts/lambada.h"
#include "scripts/model_source.h"
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
  std::string task = "perplexity";
  std::optional<std::string> method;
  EvaluationOptions options;
  std::string text;
  std::optional<std::string> tokenizer;
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

// What a task does not read must not look as if it counted.
void require_options_of(const Arguments& arguments) {
  const bool lambada = arguments.task == "lambada";
  const std::pair<const char*, bool> given[] = {
      {"--data", !arguments.data.empty()},
      {"--windows", arguments.method.has_value()},
      {"--stride", arguments.options.stride.has_value()},
      {"--text", !arguments.text.empty()},
      {"--tokenizer", arguments.tokenizer.has_value()},
  };
  for (const auto& [option, is_given] : given) {
    const bool of_lambada =
        option == std::string_view("--text") || option == std::string_view("--tokenizer");
    require(!is_given || of_lambada == lambada, "{}: is no option of --task {}; leave it out",
            option, arguments.task);
  }
  require(lambada || !arguments.data.empty(),
          "--data is missing: name the dataset that polyhead tokenize wrote");
  require(!lambada || !arguments.text.empty(),
          "--text is missing: name the passages, JSON lines of {{\"text\": ...}}");
}

void write_results(const Arguments& arguments, const std::string& table, const std::string& json) {
  fmt::print("{}", table);
  if (arguments.out.empty()) return;
  replace_durably(arguments.out + ".md", table);
  replace_durably(arguments.out + ".json", json);
}

void measure_perplexity(const Arguments& arguments, const Communicator& world) {
  EvaluationReport report{arguments.method.value_or("strided"), {}, {}};
  EvaluationOptions options = arguments.options;
  options.method = kMethods.at(report.method);
  const Datasets datasets(arguments, world);
  for (std::size_t i = 0; i < arguments.checkpoints.size(); ++i) {
    report.evaluations.push_back(
        evaluate_checkpoint(arguments.checkpoints[i], datasets.of_checkpoint(i), options, world));
  }
  run_on_rank_0(world, [&] {
    report.comparisons = compare_with_first(report.evaluations);
    write_results(arguments, evaluation_table(report), evaluation_json(report));
  });
}

void measure_lambada(const Arguments& arguments, const Communicator& world) {
  const LambadaOptions options{.text = arguments.text,
                               .tokenizer = arguments.tokenizer,
                               .context = arguments.options.context,
                               .prefix_token = arguments.options.prefix_token,
                               .inference = arguments.options.inference};
  std::vector<LambadaScore> scores;
  for (const std::string& checkpoint : arguments.checkpoints) {
    scores.push_back(score_lambada(checkpoint, options, world));
  }
  run_on_rank_0(world, [&] {
    write_results(arguments, lambada_table(arguments.text, scores),
                  lambada_json(arguments.text, scores));
  });
}

void run(const Arguments& arguments, const Communicator& world) {
  require_options_of(arguments);
  const std::filesystem::path folder = std::filesystem::path(arguments.out).parent_path();
  require(folder.empty() || std::filesystem::is_directory(folder),
          "--out {}: there is no folder {}; make it first", arguments.out, folder.string());
  // Scoring takes long: the last checkpoint is looked for before the first is scored.
  run_on_all_ranks(world, [&] {
    for (const std::string& checkpoint : arguments.checkpoints) open_model_source(checkpoint);
  });
  if (arguments.task == "lambada") return measure_lambada(arguments, world);
  measure_perplexity(arguments, world);
}

}  // namespace

void add_evaluate_command(CLI::App& app, const Communicator& world) {
  CLI::App* command = app.add_subcommand("evaluate", "Score checkpoints on one text, side by side");
  const auto arguments = std::make_shared<Arguments>();
  command
      ->add_option("checkpoints", arguments->checkpoints,
                   "Checkpoints, run folders, or model folders")
      ->required();
  command
      ->add_option(
          "--data", arguments->data,
          "Prefix of the dataset: PREFIX.bin, PREFIX.idx; once for all checkpoints, or once "
          "for each: the same text by its own tokenizer")
      ->allow_extra_args(false);
  command
      ->add_option("--task", arguments->task,
                   "perplexity (default), or lambada: whether the last words of passages are "
                   "guessed")
      ->check(CLI::IsMember({"perplexity", "lambada"}));
  command->add_option("--text", arguments->text,
                      "lambada: the passages, JSON lines of {\"text\": ...}");
  command->add_option("--tokenizer", arguments->tokenizer,
                      "lambada: as of polyhead tokenize (default: the checkpoint's)");
  command
      ->add_option("--windows", arguments->method,
                   "strided (exact mean), hf_strided, rolling (every token, disjoint; "
                   "lm-evaluation-harness), megatron (default: strided)")
      ->check(CLI::IsMember(kMethods));
  command->add_option("--context", arguments->options.context,
                      "Tokens of a window (default: the sequence length of training)");
  command->add_option("--stride", arguments->options.stride,
                      "Tokens between windows (default: half the context; the context: disjoint, "
                      "which skips tokens and so gives no bits per byte)");
  command->add_option(
      "--prefix-token", arguments->options.prefix_token,
      "rolling: what precedes a document's first token (default: the "
      "end-of-document token); lambada: what precedes a passage (default: nothing)");
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
