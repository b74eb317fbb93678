// Perplexity of a checkpoint on a tokenized text.
//
// Every document of the dataset is a stream of its own, without the end-of-document token, cut into
// windows by a named method (data/evaluation_windows.h). Windows are dealt out to the data-parallel
// ranks; the losses of all windows are then known to all ranks and added in one order, so the
// result does not depend on the number of ranks but for rounding inside the model. Memory: the
// model, one batch of windows, and 24 bytes a window. Communication: the model's own, and one
// all-reduce of two numbers a window.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "data/evaluation_windows.h"
#include "data/indexed_dataset.h"
#include "data/text_sizes.h"
#include "framework/comm/communicator.h"
#include "scripts/inference_model.h"

namespace polyhead {

struct EvaluationOptions {
  WindowMethod method = WindowMethod::kStrided;
  std::optional<std::int64_t> context;  // absent: the sequence length of training
  std::optional<std::int64_t> stride;   // absent: half the context; kRolling takes none
  // What stands before the first token of a document in kRolling; absent: the end-of-document
  // token.
  std::optional<std::int32_t> prefix_token = {};
  InferenceOptions inference;
};

struct WindowScore {
  std::int64_t document = 0;
  std::int64_t tokens = 0;  // scored
  double nll = 0;           // of these, in nats
};

struct DocumentScore {
  std::int64_t tokens = 0;
  double nll = 0;
  std::optional<TextSize> size;  // absent where the dataset has no PREFIX.sizes
};

struct CheckpointEvaluation {
  std::string checkpoint;
  std::string dataset;                // prefix
  std::string tokenizer_fingerprint;  // of the dataset; empty: it has no description
  std::string variant;                // "GQA+SWA"
  std::int64_t step = 0;
  std::int64_t parameters = 0;
  std::int64_t kv_cache_bytes_per_token = 0;  // bf16, all layers
  std::int64_t context = 0;
  std::int64_t stride = 0;  // kRolling: the context
  std::int64_t tokens_scored = 0;
  double loss = 0;  // mean over the scored tokens as the method weights them, nats
  double token_perplexity = 0;
  // Of the whole text: absent without the dataset's description, and where windows passed over
  // more than the first token of each document (kStrided and kHfStrided with stride = context).
  std::optional<double> bits_per_byte;
  std::optional<double> byte_perplexity;
  std::optional<double> word_perplexity;
  // kMegatron only; absent also where the dataset does not record space-separated words.
  std::optional<double> adjusted_perplexity;
  double tokens_per_second = 0;  // inputs, those that serve as context alone included
  std::vector<DocumentScore> documents;
  std::vector<WindowScore> windows;  // in the order of the text
};

// Collective over `world`. Throws Error for a damaged checkpoint, a dataset of another tokenizer,
// and a text too short to score.
CheckpointEvaluation evaluate_checkpoint(const std::filesystem::path& checkpoint,
                                         const IndexedDataset& dataset,
                                         const EvaluationOptions& options,
                                         const Communicator& world);

// Whether the tokens of one are those of the other, so that token perplexities compare.
bool share_tokenizer(const std::vector<CheckpointEvaluation>& evaluations);

}  // namespace polyhead
