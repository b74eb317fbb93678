#include "scripts/lambada.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <span>

#include "data/document_reader.h"
#include "data/text.h"
#include "framework/error.h"
#include "scripts/checkpoint_tokenizer.h"
#include "scripts/markdown_table.h"

namespace polyhead {
namespace {

constexpr std::int64_t kBatchTokens = 4096;

// Where the last word begins, with the white space before it: words carry the space in front.
std::size_t last_word(std::string_view text) {
  const std::size_t space = text.rfind(' ');
  if (space == std::string_view::npos) return 0;
  const std::string_view before = text.substr(0, space);
  const std::string_view stripped = strip(before);
  return stripped.empty()
             ? 0
             : static_cast<std::size_t>(stripped.data() - text.data()) + stripped.size();
}

std::vector<LambadaExample> read_examples(const LambadaOptions& options, const Tokenizer& tokenizer,
                                          std::int64_t context) {
  std::vector<LambadaExample> examples;
  read_documents({options.text}, {.json_key = "text", .separator = {}}, [&](std::string_view text) {
    try {
      examples.push_back(
          lambada_example(std::string(text), tokenizer, context, options.prefix_token));
    } catch (const Error& error) {
      fail("{}: passage {}: {}", options.text.string(), examples.size() + 1, error.what());
    }
  });
  require(!examples.empty(), "{}: has no passages", options.text.string());
  return examples;
}

// Consecutive passages that the model takes at once, each padded to the longest.
std::vector<std::span<const LambadaExample>> batches_of(std::span<const LambadaExample> examples) {
  std::vector<std::span<const LambadaExample>> batches;
  for (std::size_t begin = 0; begin < examples.size();) {
    std::size_t end = begin, longest = 0;
    while (end < examples.size()) {
      longest = std::max(longest, examples[end].tokens.size());
      if (end > begin && longest * (end - begin + 1) > kBatchTokens) break;
      ++end;
    }
    batches.push_back(examples.subspan(begin, end - begin));
    begin = end;
  }
  return batches;
}

// Writes (log-likelihood of the last word, whether it is the greedy one) of each passage.
void score_batch(const InferenceModel& inference, std::span<const LambadaExample> batch,
                 double* scores) {
  std::size_t length = 0;
  for (const LambadaExample& example : batch) length = std::max(length, example.tokens.size() - 1);
  const auto count = static_cast<std::int64_t>(batch.size());
  const auto inputs = static_cast<std::int64_t>(length);
  // What is padded follows the passage, where nothing of it sees the padding.
  Tensor tokens = Tensor::zeros({count * inputs}, DType::kI32);
  Tensor targets = Tensor::empty({count * inputs}, DType::kI32);
  std::fill_n(targets.data<std::int32_t>(), count * inputs, -1);
  for (std::int64_t i = 0; i < count; ++i) {
    const LambadaExample& example = batch[static_cast<std::size_t>(i)];
    std::copy(example.tokens.begin(), example.tokens.end() - 1,
              tokens.data<std::int32_t>() + i * inputs);
    std::copy(example.tokens.begin() + example.first_scored, example.tokens.end(),
              targets.data<std::int32_t>() + i * inputs + example.first_scored - 1);
  }
  const Model& model = inference.model();
  const Tensor h = model.infer(tokens.to(inference.device()), count);
  const auto predictions = model.output_loss().predictions(h, targets.to(inference.device()));
  const Tensor losses = predictions.losses.to(Device::kCpu);
  for (std::int64_t i = 0; i < count; ++i) {
    double log_likelihood = 0;
    bool greedy = true;
    for (std::int64_t at = i * inputs; at < (i + 1) * inputs; ++at) {
      if (targets.data<std::int32_t>()[at] < 0) continue;
      log_likelihood -= static_cast<double>(losses.data<float>()[at]);
      greedy = greedy && predictions.greedy.data<std::int32_t>()[at] == 1;
    }
    scores[2 * i] = log_likelihood;
    scores[2 * i + 1] = greedy ? 1 : 0;
  }
}

// (passages, 2) f64, the same on all ranks.
Tensor score_examples(const InferenceModel& inference, std::span<const LambadaExample> examples) {
  Tensor scores = Tensor::zeros({static_cast<std::int64_t>(examples.size()), 2}, DType::kF64);
  const Communicator& data = *inference.layout().data;
  std::size_t turn = 0;
  for (const std::span<const LambadaExample> batch : batches_of(examples)) {
    if (turn++ % static_cast<std::size_t>(data.size()) != static_cast<std::size_t>(data.rank())) {
      continue;
    }
    score_batch(inference, batch, scores.data<double>() + 2 * (batch.data() - examples.data()));
  }
  data.all_reduce(scores);
  return scores;
}

}  // namespace

LambadaExample lambada_example(const std::string& text, const Tokenizer& tokenizer,
                               std::int64_t context, std::optional<std::int32_t> prefix_token) {
  const std::size_t begin = last_word(text);
  LambadaExample example;
  if (prefix_token) example.tokens.push_back(*prefix_token);
  if (begin == 0 && !prefix_token) example.tokens.push_back(tokenizer.eod_id());
  example.first_scored = static_cast<std::int64_t>(example.tokens.size() +
                                                   tokenizer.encode(text.substr(0, begin)).size());
  const std::vector<std::int32_t> tokens = tokenizer.encode(text);
  example.tokens.insert(example.tokens.end(), tokens.begin(), tokens.end());
  const auto length = static_cast<std::int64_t>(example.tokens.size());
  require(0 < example.first_scored && example.first_scored < length,
          "'{}' has no last word with a token", text);
  require(length - example.first_scored <= context,
          "the last word has {} tokens, more than the context of {}; raise --context",
          length - example.first_scored, context);
  const std::int64_t surplus = std::max<std::int64_t>(0, length - context - 1);
  example.tokens.erase(example.tokens.begin(), example.tokens.begin() + surplus);
  example.first_scored -= surplus;
  return example;
}

LambadaScore score_lambada(const std::filesystem::path& checkpoint, const LambadaOptions& options,
                           const Communicator& world) {
  ModelSource source;
  LambadaScore score;
  std::vector<LambadaExample> examples;
  run_on_all_ranks(world, [&] {
    source = open_model_source(checkpoint);
    score.context = options.context.value_or(source.sequence_length);
    require(score.context > 0, "--context {}: must be positive", score.context);
    const std::int64_t vocab_size = source.model.vocab_size.value();
    require(
        !options.prefix_token || (0 <= *options.prefix_token && *options.prefix_token < vocab_size),
        "--prefix-token {}: lies outside the vocabulary of {}, which has {} tokens",
        options.prefix_token.value_or(0), checkpoint.string(), vocab_size);
    examples = read_examples(options, open_tokenizer(source, options.tokenizer), score.context);
  });
  const InferenceModel inference(source, score.context, options.inference, world);
  const Tensor scores = score_examples(inference, examples);

  score.checkpoint = checkpoint.string();
  score.variant = attention_variant(source.model);
  score.step = source.step;
  score.examples = static_cast<std::int64_t>(examples.size());
  double log_likelihood = 0;
  for (std::int64_t i = 0; i < score.examples; ++i) {
    log_likelihood += scores.data<double>()[2 * i];
    score.correct += scores.data<double>()[2 * i + 1] > 0.5;
  }
  const auto count = static_cast<double>(score.examples);
  score.accuracy = static_cast<double>(score.correct) / count;
  score.perplexity = std::exp(-log_likelihood / count);
  return score;
}

std::string lambada_table(const std::string& text, const std::vector<LambadaScore>& scores) {
  std::vector<TableRow> rows = {
      {"checkpoint", "attention", "accuracy", "ppl per word", "correct", "passages", "context"}};
  for (const LambadaScore& s : scores) {
    rows.push_back({s.checkpoint, s.variant, fmt::format("{:.2f} %", 100 * s.accuracy),
                    fmt::format("{:.3f}", s.perplexity), fmt::format("{}", s.correct),
                    fmt::format("{}", s.examples), fmt::format("{}", s.context)});
  }
  return fmt::format("{}, last words as in lm-evaluation-harness's lambada_openai\n\n{}", text,
                     markdown_table(rows, 2));
}

std::string lambada_json(const std::string& text, const std::vector<LambadaScore>& scores) {
  using Json = nlohmann::ordered_json;
  Json rows = Json::array();
  for (const LambadaScore& s : scores) {
    rows.push_back({{"checkpoint", s.checkpoint},
                    {"variant", s.variant},
                    {"step", s.step},
                    {"context", s.context},
                    {"examples", s.examples},
                    {"correct", s.correct},
                    {"accuracy", s.accuracy},
                    {"perplexity_per_word", s.perplexity}});
  }
  const Json document = {
      {"task", "lambada"}, {"definition", "lambada_openai"}, {"text", text}, {"checkpoints", rows}};
  return document.dump(2) + "\n";
}

}  // namespace polyhead
