// polyhead tokenize: text files to a dataset.
#include "data/tokenize.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "data/dataset_lock.h"
#include "framework/error.h"
#include "scripts/rank_0.h"

namespace polyhead {
namespace {

const std::map<std::string, Detokenizer> kDetokenizers = {{"none", Detokenizer::kNone},
                                                          {"wikitext", Detokenizer::kWikitext}};

struct Arguments {
  TokenizeOptions options;
  std::string tokenizer;
  std::int64_t train_vocab_size = 0;  // 0: do not train
  std::string model_prefix;
};

void run(const Arguments& arguments) {
  const TokenizeOptions& options = arguments.options;
  const DatasetLock lock(options.output);
  std::string tokenizer_name = arguments.tokenizer;
  if (arguments.train_vocab_size > 0) {
    const bool beside = arguments.model_prefix.empty();
    tokenizer_name = (beside ? options.output : arguments.model_prefix) + ".model";
    train_tokenizer(options, arguments.train_vocab_size, tokenizer_name);
    fmt::print("{}: {} pieces\n", tokenizer_name, arguments.train_vocab_size);
  }
  const DatasetDescription description = tokenize(options, Tokenizer(tokenizer_name));
  fmt::print("{}: {} documents, {} tokens of {}, {} bytes ({:.2f} a token), {} words\n",
             options.output, description.documents, description.tokens, description.vocab_size,
             description.bytes,
             static_cast<double>(description.bytes) / static_cast<double>(description.tokens),
             description.words);
}

}  // namespace

void add_tokenize_command(CLI::App& app, const Communicator& world) {
  CLI::App* command =
      app.add_subcommand("tokenize", "Turn text files or JSON lines into a dataset");
  const auto arguments = std::make_shared<Arguments>();
  TokenizeOptions& options = arguments->options;
  command->add_option("inputs", options.inputs, "Text files, .jsonl files, or folders of them")
      ->required();
  command->add_option("--output", options.output, "Prefix of the .bin, .idx and .json to write")
      ->required();
  CLI::Option_group* tokenizer = command->add_option_group("tokenizer");
  tokenizer->add_option(
      "--tokenizer", arguments->tokenizer,
      "'bytes', the file of a sentencepiece model, or a tokenizer.json of Hugging "
      "Face (byte-level BPE: GPT-2, Llama 3, Qwen)");
  CLI::Option* train = tokenizer->add_option(
      "--train-sentencepiece", arguments->train_vocab_size,
      "Train a sentencepiece model with this many pieces on the same text, then use it");
  train->check(CLI::Range(std::int64_t{1}, std::int64_t{1} << 24));
  tokenizer->require_option(1);
  command
      ->add_option("--model-prefix", arguments->model_prefix,
                   "Where to write the trained model, without .model (default: --output)")
      ->needs(train);
  command->add_option("--json-key", options.format.json_key,
                      "Read JSON lines and take the text under this key (.jsonl, .json: text)");
  command->add_option("--document-separator", options.format.separator,
                      "Plain text: a line equal to this ends a document (default: one per file)");
  command->add_flag("--append-eod,!--no-append-eod", options.append_eod,
                    "End each document with the end-of-document token (default)");
  command
      ->add_option("--detokenize", options.detokenizer,
                   "wikitext: undo the spaces around WikiText's punctuation first; words and bytes "
                   "are counted before")
      ->transform(CLI::CheckedTransformer(kDetokenizers));
  command->callback([arguments, &world] { run_on_rank_0(world, [&] { run(*arguments); }); });
}

}  // namespace polyhead
