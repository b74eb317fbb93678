// Perplexity of a checkpoint on a tokenized text.
//
// Every document of the dataset is a stream of its own, without the end-of-document token, cut into
// windows by a named method (data/evaluation_windows.h). Windows are dealt out to the data-parallel
// ranks; the losses of all windows are then known to all ranks and added in one order, so the
// result does not depend on the number of ranks but for rounding inside the model. Memory: the
// model and one batch of windows. Communication: the model's own, and one all-reduce of two numbers
// a window.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "data/evaluation_windows.h"
#include "data/indexed_dataset.h"
#include "framework/comm/communicator.h"
#include "scripts/inference_model.h"

namespace polyhead {

struct EvaluationOptions {
  WindowMethod method = WindowMethod::kStrided;
  std::optional<std::int64_t> context;  // absent: the sequence length of training
  std::optional<std::int64_t> stride;   // absent: half the context; kRolling takes none
  InferenceOptions inference;
};

struct CheckpointEvaluation {
  std::string checkpoint;
  std::string variant;  // "GQA+SWA"
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
  std::optional<double> word_perplexity;
  std::optional<double> adjusted_perplexity;  // kMegatron only
  double tokens_per_second = 0;               // inputs, those that serve as context alone included
};

// Collective over `world`. Throws Error for a damaged checkpoint, a dataset of another tokenizer,
// and a text too short to score.
CheckpointEvaluation evaluate_checkpoint(const std::filesystem::path& checkpoint,
                                         const IndexedDataset& dataset,
                                         const EvaluationOptions& options,
                                         const Communicator& world);

}  // namespace polyhead
