// Measures of a scored text, from the sum of its tokens' negative log-likelihoods in nats.
//
// Token perplexity depends on the tokenizer and compares models of one tokenizer only. The others
// divide by the length of the original text, before tokenization, and compare all models.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace polyhead {

inline double token_perplexity(double nll, std::int64_t scored_tokens) {
  return std::exp(nll / static_cast<double>(scored_tokens));
}

// bytes: of the text in UTF-8.
inline double bits_per_byte(double nll, std::int64_t bytes) {
  return nll / (static_cast<double>(bytes) * std::numbers::ln2);
}
inline double byte_perplexity(double nll, std::int64_t bytes) {
  return std::exp(nll / static_cast<double>(bytes));
}

// words: count_words() of the text.
inline double word_perplexity(double nll, std::int64_t words) {
  return std::exp(nll / static_cast<double>(words));
}

// Megatron-LM's perplexities of a mean loss, which stop at e^20. The adjusted one spreads the loss
// over the words of the original text, tokens and words both less the first.
inline double megatron_perplexity(double mean_loss) {
  return std::exp(std::min(20.0, mean_loss));
}
inline double megatron_adjusted_perplexity(double mean_loss, std::int64_t tokens,
                                           std::int64_t words) {
  const double token_ratio = static_cast<double>(tokens - 1) / static_cast<double>(words - 1);
  return megatron_perplexity(mean_loss * token_ratio);
}

}  // namespace polyhead
