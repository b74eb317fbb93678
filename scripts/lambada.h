// LAMBADA (Paperno et al., ACL 2016): does a model guess the last word of a passage?
//
// As lm-evaluation-harness's lambada_openai defines it. The last word is what follows the last
// space, with that space; its tokens are those by which the tokens of the whole text go on behind
// the tokens of what precedes it. A passage longer than the context loses its beginning.
//   accuracy    the share of passages of which each of these tokens is the likeliest (a tie
//               counts), given the true ones before it
//   perplexity  exp(-mean over passages of log p(last word)): per word, however many tokens it has
// Megatron-LM's strict accuracy is the same but for white space at the ends of the text.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/tokenizer.h"
#include "framework/comm/communicator.h"
#include "scripts/inference_model.h"

namespace polyhead {

struct LambadaOptions {
  std::filesystem::path text;                // JSON lines: {"text": "..."}
  std::optional<std::string> tokenizer;      // absent: the checkpoint's
  std::optional<std::int64_t> context;       // absent: the sequence length of training
  std::optional<std::int32_t> prefix_token;  // before every passage; absent: nothing
  InferenceOptions inference;
};

struct LambadaExample {
  std::vector<std::int32_t> tokens;
  std::int64_t first_scored = 0;  // index of the last word's first token, at least 1
};

// A passage that is one word follows the prefix token or, without one, the tokenizer's
// end-of-document token. Throws Error for a last word without a token and one of `context` tokens
// or more.
LambadaExample lambada_example(const std::string& text, const Tokenizer& tokenizer,
                               std::int64_t context, std::optional<std::int32_t> prefix_token);

struct LambadaScore {
  std::string checkpoint;
  std::string variant;
  std::int64_t step = 0;
  std::int64_t context = 0;
  std::int64_t examples = 0;
  std::int64_t correct = 0;
  double accuracy = 0;
  double perplexity = 0;  // per word
};

// Collective over `world`: passages are dealt out to the data-parallel ranks; the same on any
// layout but for rounding inside the model. Memory: the model and the tokens of the passages.
LambadaScore score_lambada(const std::filesystem::path& checkpoint, const LambadaOptions& options,
                           const Communicator& world);

std::string lambada_table(const std::string& text, const std::vector<LambadaScore>& scores);
std::string lambada_json(const std::string& text, const std::vector<LambadaScore>& scores);

}  // namespace polyhead
