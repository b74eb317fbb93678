// polyhead generate: a text that a checkpoint writes on.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

#include "framework/error.h"
#include "framework/files/mapped_file.h"
#include "scripts/commands.h"
#include "scripts/generation.h"
#include "scripts/rank_0.h"
#include "scripts/train_config_fields.h"

namespace polyhead {
namespace {

struct Arguments {
  std::string checkpoint;
  std::string prompt;
  std::optional<std::string> prompt_file;  // absent: the prompt is the one above
  GenerationOptions options;
  bool verbose = false;
};

// At once: a text appears as it is written.
void print_text(std::string_view text) {
  const bool written =
      std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0;
  require(written, "cannot write the text to stdout: {}", std::strerror(errno));
}

void run(const Arguments& arguments, const Communicator& world) {
  std::string prompt = arguments.prompt;
  if (arguments.prompt_file) {
    prompt = told_by_rank_0(world,
                            [&] { return std::string(MappedFile(*arguments.prompt_file).text()); });
  }
  const Generation generation =
      generate(arguments.checkpoint, prompt, arguments.options, world, print_text);
  run_on_all_ranks(world, [&] {
    if (world.rank() != 0) return;
    print_text("\n");
    if (!arguments.verbose) return;
    fmt::print(stderr, "{} tokens after {} of the prompt in {:.2f} s, {:.1f} tokens/s\n",
               generation.tokens.size(), generation.prompt.size(), generation.seconds,
               static_cast<double>(generation.tokens.size()) / generation.seconds);
  });
}

}  // namespace

void add_generate_command(CLI::App& app, const Communicator& world) {
  CLI::App* command = app.add_subcommand("generate", "Continue a text with a checkpoint");
  const auto arguments = std::make_shared<Arguments>();
  GenerationOptions& options = arguments->options;
  SamplingOptions& sampling = options.sampling;
  command->add_option("checkpoint", arguments->checkpoint, "Checkpoint, or run folder")->required();
  CLI::Option_group* prompt = command->add_option_group("prompt");
  prompt->add_option("--prompt", arguments->prompt,
                     "Text to continue; empty: the beginning of a document");
  prompt->add_option("--prompt-file", arguments->prompt_file,
                     "File whose text, to its last byte, to continue");
  prompt->require_option(1);
  command->add_option("--max-new-tokens", options.max_new_tokens, "Tokens at most (default: 128)");
  command->add_option("--temperature", sampling.temperature,
                      "Divides the logits; 0 takes the likeliest token (default: 0, but 1 with "
                      "--top-k, --top-p or --seed)");
  command->add_option("--top-k", sampling.top_k, "Choose among the K likeliest tokens");
  command->add_option("--top-p", sampling.top_p,
                      "Choose, after --top-k, among the likeliest tokens that have a mass of P "
                      "together");
  command->add_option("--seed", sampling.seed, "The same seed draws the same tokens (default: 0)")
      ->check([](const std::string& seed) {
        return std::string(seed.starts_with('-') ? "must not be negative" : "");
      });
  command->add_flag("--ignore-eos", options.ignore_eos,
                    "Go on where the text has ended, up to --max-new-tokens");
  options.inference.tensor_parallel_size = world.size();
  command->add_option("--tp", options.inference.tensor_parallel_size,
                      "Tensor-parallel ranks (default: all)");
  command->add_option("--device", options.inference.device, "Where to compute")
      ->transform(CLI::CheckedTransformer(values_by_name<DeviceChoice>()));
  command
      ->add_option("--precision", options.inference.precision,
                   "In what to compute; auto: bf16 on CUDA")
      ->transform(CLI::CheckedTransformer(values_by_name<Precision>()));
  command->add_flag("--verbose", arguments->verbose, "Tell the speed on stderr");
  command->callback([arguments, &world] { run(*arguments, world); });
}

}  // namespace polyhead
