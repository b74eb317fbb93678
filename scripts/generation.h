// Text that a checkpoint writes on, token by token.
//
// The tokens that the model's folder names end the text (layers/huggingface/special_tokens.h), and
// no others; where it names none, any token that is no text does: the end of a document, and what
// other special tokens a vocabulary has. How a prompt becomes tokens is in
// scripts/checkpoint_tokenizer.h.
//
// Every token takes a forward pass over the whole sequence, as no keys and values are kept: time
// grows with the square of the length. The logits of the last position alone are computed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "framework/comm/communicator.h"
#include "scripts/inference_model.h"
#include "scripts/sampling.h"

namespace polyhead {

struct GenerationOptions {
  std::int64_t max_new_tokens = 128;
  SamplingOptions sampling = {};
  bool ignore_eos = false;  // no token ends it
  InferenceOptions inference = {};
};

struct Generation {
  std::vector<std::int32_t> prompt;
  std::vector<std::int32_t> tokens;  // new ones, with the one that ended the text
  double seconds = 0;                // without loading the model
};

// Collective over `world`. Rank 0 chooses every token; `write` is called there alone, with pieces
// of text in UTF-8 as they come. The same tokens on any number of ranks, up to rounding in the
// model. Warns on stderr of rotary positions that training did not reach. Throws Error for a prompt
// that is not UTF-8 or has tokens that the model lacks, more positions than the model has, a
// checkpoint that is damaged, lacks its tokenizer or names end tokens that the model lacks, and
// what `write` throws; ConfigurationError for options out of their range.
Generation generate(const std::filesystem::path& checkpoint, const std::string& prompt,
                    const GenerationOptions& options, const Communicator& world,
                    const std::function<void(std::string_view)>& write);

}  // namespace polyhead
