// How a stream of tokens is cut into windows to be scored.
//
// A window of `length` input tokens begins at token `begin` of the stream; input i predicts token
// begin + i + 1. Inputs from first_scored on count: each target of a stream is scored at most once.
// begin = -1 stands for a window whose first input is the prefix token (eod), not part of the
// stream, so that even the first token of the stream is scored.
//
// With l(w) the mean negative log-likelihood of a window's scored targets, the loss of a stream is
// sum(weight * l) / sum(weight); the weight is the number of scored targets but in kHfStrided.
// Below N is the stream's length, M (or S) the context and o the stride.
#pragma once

#include <cstdint>
#include <vector>

namespace polyhead {

enum class WindowMethod {
  // Windows of M tokens every o; each scores the targets no window before it did. Exact mean over
  // tokens. N - 1 targets, but o = M is the disjoint case, where no window predicts the first token
  // of the next: N - ceil(N / M) targets.
  kStrided,
  // The recipe of Hugging Face's "Perplexity of fixed-length models": the same windows and scores,
  // but weight (new tokens - 1) although all windows after the first score one target more.
  kHfStrided,
  // lm-evaluation-harness's rolling windows made disjoint: every token is scored, each window's
  // context begins one token before its targets, only the last reaches further back.
  kRolling,
  // Megatron-LM's zeroshot_gpt: windows of S inputs every o, the last o targets scored in all but
  // the first. N - 1 targets at every stride.
  kMegatron,
};

struct EvaluationWindow {
  std::int64_t begin = 0;
  std::int64_t length = 0;
  std::int64_t first_scored = 0;
  double weight = 0;

  std::int64_t scored() const { return length - first_scored; }
};

// Windows without a scored target are left out. 1 <= stride <= context; kRolling has no stride.
std::vector<EvaluationWindow> evaluation_windows(WindowMethod method, std::int64_t tokens,
                                                 std::int64_t context, std::int64_t stride);

}  // namespace polyhead
