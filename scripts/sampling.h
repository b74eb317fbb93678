// The choice of the next token from its logits.
//
// The filters are those of Hugging Face's generate(do_sample=True) and follow each other as there:
// the temperature divides the logits; top-k leaves the k largest, and those that equal the last of
// them; top-p leaves, from the likeliest down, what it takes for a mass of p (nucleus sampling,
// Holtzman et al. 2020), at least one. Of equal logits the lower id counts as likelier.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace polyhead {

struct SamplingOptions {
  // 0: greedy, the largest logit. Absent: 1 where one of those below is given, else 0.
  std::optional<double> temperature = {};
  std::optional<std::int64_t> top_k = {};  // 0, as absent: all
  std::optional<double> top_p = {};        // 1, as absent: all
  std::optional<std::uint64_t> seed = {};  // absent: 0

  double effective_temperature() const;
};

// Throws ConfigurationError, naming the option (--temperature, --top-k, --top-p).
void check_sampling_options(const SamplingOptions& options);

struct Candidate {
  std::int32_t token;
  double probability;
};

// What the filters leave, by ascending id, with probabilities that add up to 1; of a temperature
// above 0. Sorts with top-p, else linear in the number of logits.
std::vector<Candidate> sampling_candidates(std::span<const float> logits,
                                           const SamplingOptions& options);

// The token at `position` of its sequence, a function of the arguments alone: the random number is
// Philox's of (seed, position). Throws Error where a logit is not finite.
std::int32_t choose_token(std::span<const float> logits, const SamplingOptions& options,
                          std::int64_t position);

}  // namespace polyhead
