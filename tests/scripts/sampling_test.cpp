#include "scripts/sampling.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "framework/error.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

std::vector<std::int32_t> kept(const std::vector<float>& logits, const SamplingOptions& options) {
  std::vector<std::int32_t> tokens;
  double total = 0;
  for (const Candidate& candidate : sampling_candidates(logits, options)) {
    tokens.push_back(candidate.token);
    total += candidate.probability;
  }
  EXPECT_NEAR(total, 1, 1e-12);
  return tokens;
}

// Logits whose probabilities are these.
std::vector<float> logits_of(const std::vector<double>& probabilities) {
  std::vector<float> logits;
  for (const double p : probabilities) logits.push_back(static_cast<float>(std::log(p)));
  return logits;
}

TEST(Sampling, IsGreedyUnlessAskedToSample) {
  EXPECT_EQ(SamplingOptions{}.effective_temperature(), 0);
  EXPECT_EQ(SamplingOptions{.top_k = 5}.effective_temperature(), 1);
  EXPECT_EQ(SamplingOptions{.top_p = 0.5}.effective_temperature(), 1);
  EXPECT_EQ(SamplingOptions{.seed = 7}.effective_temperature(), 1);
  EXPECT_EQ((SamplingOptions{.temperature = 0, .seed = 7}).effective_temperature(), 0);
}

TEST(Sampling, GreedyTakesTheLowestIdOfEqualLogits) {
  const std::vector<float> logits = {-1, 2.5f, 0, 2.5f, 2.4f};
  for (std::int64_t position = 0; position < 20; ++position) {
    EXPECT_EQ(choose_token(logits, {}, position), 1);
    EXPECT_EQ(choose_token(logits, {.temperature = 0, .top_k = 3, .seed = 4}, position), 1);
  }
}

TEST(Sampling, TopKKeepsTheLargestAndWhatEqualsTheLastOfThem) {
  const std::vector<float> logits = {0, 3, 1, 2, 1, -5};
  EXPECT_THAT(kept(logits, {.top_k = 1}), ElementsAre(1));
  EXPECT_THAT(kept(logits, {.top_k = 2}), ElementsAre(1, 3));
  EXPECT_THAT(kept(logits, {.top_k = 3}), ElementsAre(1, 2, 3, 4));
  for (const std::int64_t all : {0, 6, 7, 1000}) {
    EXPECT_THAT(kept(logits, {.top_k = all}), ElementsAre(0, 1, 2, 3, 4, 5));
  }
}

TEST(Sampling, TopPKeepsWhatItTakesForTheMass) {
  const std::vector<float> logits = logits_of({0.1, 0.4, 0.2, 0.3});
  EXPECT_THAT(kept(logits, {.top_p = 1e-9}), ElementsAre(1));
  EXPECT_THAT(kept(logits, {.top_p = 0.39}), ElementsAre(1));
  EXPECT_THAT(kept(logits, {.top_p = 0.41}), ElementsAre(1, 3));
  EXPECT_THAT(kept(logits, {.top_p = 0.69}), ElementsAre(1, 3));
  EXPECT_THAT(kept(logits, {.top_p = 0.71}), ElementsAre(1, 2, 3));
  EXPECT_THAT(kept(logits, {.top_p = 0.91}), ElementsAre(0, 1, 2, 3));
  EXPECT_THAT(kept(logits, {.top_p = 1}), ElementsAre(0, 1, 2, 3));
}

TEST(Sampling, TopPTakesTheLowestIdsOfEqualLogits) {
  EXPECT_THAT(kept({0, 0, 0, 0}, {.top_p = 0.4}), ElementsAre(0, 1));
}

TEST(Sampling, TopPIsOfWhatTopKAndTheTemperatureLeave) {
  const std::vector<float> logits = logits_of({0.1, 0.4, 0.2, 0.3});
  // Of 0.4 and 0.3 alone the first has 0.571.
  EXPECT_THAT(kept(logits, {.top_k = 2, .top_p = 0.56}), ElementsAre(1));
  EXPECT_THAT(kept(logits, {.top_k = 2, .top_p = 0.58}), ElementsAre(1, 3));
  // At half the temperature the probabilities are squared: 0.16 / 0.3 = 0.533 for the first.
  EXPECT_THAT(kept(logits, {.temperature = 0.5, .top_p = 0.52}), ElementsAre(1));
  EXPECT_THAT(kept(logits, {.temperature = 0.5, .top_p = 0.54}), ElementsAre(1, 3));
}

TEST(Sampling, TemperatureSharpensAndFlattens) {
  const std::vector<float> logits = logits_of({0.2, 0.8});
  EXPECT_NEAR(sampling_candidates(logits, {.temperature = 1})[0].probability, 0.2, 1e-7);
  EXPECT_NEAR(sampling_candidates(logits, {.temperature = 0.5})[0].probability, 0.04 / 0.68, 1e-7);
  EXPECT_NEAR(sampling_candidates(logits, {.temperature = 2})[0].probability, 1.0 / 3, 1e-7);
  // exp(-1e30) is 0 and no NaN comes of it.
  EXPECT_EQ(choose_token(logits, {.temperature = 1e-30, .seed = 3}, 0), 1);
}

// Large logits overflow exp() where the largest is not taken off first.
TEST(Sampling, DoesNotOverflow) {
  EXPECT_NEAR(sampling_candidates(std::vector<float>{3e38f, 3e38f}, {.seed = 0})[0].probability,
              0.5, 1e-12);
}

// Pearson's statistic of 40,000 draws, of which one seed in a thousand exceeds the bound.
TEST(Sampling, DrawsWithTheProbabilities) {
  const std::vector<float> logits = {0.3f, -1.2f, 2.0f, 0.9f, -0.4f, 1.1f, -3.0f};
  constexpr std::int64_t kDraws = 40000;
  const SamplingOptions cases[] = {
      {.seed = 11},
      {.temperature = 1.7, .seed = 12},
      {.temperature = 0.6, .top_k = 5, .top_p = 0.95, .seed = 13},
  };
  constexpr double kBounds[] = {0, 10.83, 13.82, 16.27, 18.47, 20.52, 22.46};  // by freedom
  for (const SamplingOptions& options : cases) {
    std::map<std::int32_t, std::int64_t> counts;
    for (std::int64_t position = 0; position < kDraws; ++position) {
      ++counts[choose_token(logits, options, position)];
    }
    const std::vector<Candidate> candidates = sampling_candidates(logits, options);
    ASSERT_EQ(counts.size(), candidates.size());
    double statistic = 0;
    for (const Candidate& candidate : candidates) {
      const double expected = candidate.probability * kDraws;
      const double off = static_cast<double>(counts[candidate.token]) - expected;
      statistic += off * off / expected;
    }
    EXPECT_LT(statistic, kBounds[candidates.size() - 1]);
  }
}

TEST(Sampling, DependsOnSeedAndPositionAlone) {
  const std::vector<float> logits(64, 0.0f);
  const auto drawn = [&](std::uint64_t seed) {
    std::vector<std::int32_t> tokens;
    for (std::int64_t position = 0; position < 50; ++position) {
      tokens.push_back(choose_token(logits, {.seed = seed}, position));
    }
    return tokens;
  };
  EXPECT_EQ(drawn(5), drawn(5));
  EXPECT_NE(drawn(5), drawn(6));
  const std::vector<std::int32_t> tokens = drawn(5);
  EXPECT_GT(std::set<std::int32_t>(tokens.begin(), tokens.end()).size(), 20u);
}

TEST(Sampling, RefusesWhatIsNoDistribution) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(error_of([&] {
                choose_token(std::vector<float>{0, nan}, {}, 17);
              }),
              HasSubstr("position 17: the model gives logits that are not finite"));
}

TEST(Sampling, RefusesOptionsByName) {
  const auto refusal = [](const SamplingOptions& options) {
    return error_of([&] { check_sampling_options(options); });
  };
  EXPECT_THAT(refusal({.temperature = -0.5}), HasSubstr("--temperature -0.5: must be"));
  EXPECT_THAT(refusal({.temperature = std::nan("")}), HasSubstr("--temperature nan: must be"));
  EXPECT_THAT(refusal({.top_k = -1}), HasSubstr("--top-k -1: must be"));
  for (const double p : {0.0, -0.1, 1.001, std::nan("")}) {
    EXPECT_THAT(refusal({.top_p = p}), HasSubstr(fmt::format("--top-p {}: must be", p)));
  }
  check_sampling_options({.temperature = 0, .top_k = 0, .top_p = 1});
}

}  // namespace
}  // namespace polyhead
