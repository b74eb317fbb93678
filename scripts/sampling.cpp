#include "scripts/sampling.h"

#include <algorithm>
#include <cmath>

#include "framework/error.h"
#include "framework/random.h"

namespace polyhead {
namespace {

template <class... Args>
void require_option(bool condition, fmt::format_string<Args...> format, Args&&... args) {
  if (!condition) throw ConfigurationError(fmt::format(format, std::forward<Args>(args)...));
}

// Before they are normalized a candidate's probability is relative to the likeliest one.
void normalize(std::vector<Candidate>& candidates) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.probability;
  for (Candidate& candidate : candidates) candidate.probability /= total;
}

void keep_top_k(std::span<const float> logits, std::int64_t k, std::vector<Candidate>& candidates) {
  if (k == 0 || k >= static_cast<std::int64_t>(candidates.size())) return;
  std::vector<float> ordered(logits.begin(), logits.end());
  const auto last = ordered.begin() + (k - 1);
  std::nth_element(ordered.begin(), last, ordered.end(), std::greater<>());
  std::erase_if(candidates, [&](const Candidate& candidate) {
    return logits[static_cast<std::size_t>(candidate.token)] < *last;
  });
}

void keep_top_p(double p, std::vector<Candidate>& candidates) {
  if (p == 1) return;
  normalize(candidates);
  std::stable_sort(
      candidates.begin(), candidates.end(),
      [](const Candidate& a, const Candidate& b) { return a.probability > b.probability; });
  double likelier = 0;
  std::size_t kept = 0;
  while (kept < candidates.size() && (kept == 0 || likelier < p)) {
    likelier += candidates[kept++].probability;
  }
  candidates.resize(kept);
  std::sort(candidates.begin(), candidates.end(),
            [](const Candidate& a, const Candidate& b) { return a.token < b.token; });
}

// In [0, 1), of 53 bits: 32 would never reach the unlikeliest of a large vocabulary.
double random_fraction(std::uint64_t seed, std::int64_t position) {
  const auto words =
      random_words(seed, stream_id("sampling"), static_cast<std::uint64_t>(position));
  const std::uint64_t bits = (std::uint64_t{words[0]} << 21) ^ (words[1] >> 11);
  return std::ldexp(static_cast<double>(bits), -53);
}

}  // namespace

double SamplingOptions::effective_temperature() const {
  return temperature.value_or(top_k || top_p || seed ? 1.0 : 0.0);
}

void check_sampling_options(const SamplingOptions& options) {
  const double temperature = options.effective_temperature();
  require_option(std::isfinite(temperature) && temperature >= 0,
                 "--temperature {}: must be a number of at least 0; 0 takes the likeliest token",
                 temperature);
  require_option(options.top_k.value_or(0) >= 0,
                 "--top-k {}: must be the number of tokens to choose from; 0 is all",
                 options.top_k.value_or(0));
  require_option(options.top_p.value_or(1) > 0 && options.top_p.value_or(1) <= 1,
                 "--top-p {}: must be above 0 and at most 1; 1 is all tokens",
                 options.top_p.value_or(1));
}

std::vector<Candidate> sampling_candidates(std::span<const float> logits,
                                           const SamplingOptions& options) {
  const double temperature = options.effective_temperature();
  const double largest = *std::max_element(logits.begin(), logits.end());
  std::vector<Candidate> candidates;
  candidates.reserve(logits.size());
  for (const float logit : logits) {
    candidates.push_back({static_cast<std::int32_t>(candidates.size()),
                          std::exp((static_cast<double>(logit) - largest) / temperature)});
  }
  keep_top_k(logits, options.top_k.value_or(0), candidates);
  keep_top_p(options.top_p.value_or(1), candidates);
  normalize(candidates);
  return candidates;
}

std::int32_t choose_token(std::span<const float> logits, const SamplingOptions& options,
                          std::int64_t position) {
  require(
      std::all_of(logits.begin(), logits.end(), [](float logit) { return std::isfinite(logit); }),
      "position {}: the model gives logits that are not finite; use another checkpoint", position);
  if (options.effective_temperature() == 0) {
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) -
                                     logits.begin());
  }
  const std::vector<Candidate> candidates = sampling_candidates(logits, options);
  // By id and not by probability: rounding in the model then moves the borders between tokens a
  // little, where it could change their order.
  double left = random_fraction(options.seed.value_or(0), position);
  for (const Candidate& candidate : candidates) {
    if (left < candidate.probability) return candidate.token;
    left -= candidate.probability;
  }
  return candidates.back().token;  // of a sum that rounding left below 1
}

}  // namespace polyhead
