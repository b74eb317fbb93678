#include "data/evaluation_windows.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <utility>
#include <vector>

#include "data/perplexity.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;

// How often each token of the stream is scored; also checks that windows stay inside the stream
// and the context.
std::vector<int> times_scored(const std::vector<EvaluationWindow>& windows, std::int64_t tokens,
                              std::int64_t context) {
  std::vector<int> times(static_cast<std::size_t>(tokens), 0);
  for (const EvaluationWindow& window : windows) {
    EXPECT_GE(window.begin, -1);
    EXPECT_LE(window.length, context);
    EXPECT_LE(window.begin + window.length + 1, tokens);
    for (std::int64_t i = window.first_scored; i < window.length; ++i) {
      ++times[static_cast<std::size_t>(window.begin + i + 1)];
    }
  }
  return times;
}

std::int64_t scored(const std::vector<EvaluationWindow>& windows) {
  std::int64_t sum = 0;
  for (const EvaluationWindow& window : windows) sum += window.scored();
  return sum;
}

double weight(const std::vector<EvaluationWindow>& windows) {
  double sum = 0;
  for (const EvaluationWindow& window : windows) sum += window.weight;
  return sum;
}

TEST(EvaluationWindows, StridedCounts) {
  const auto half = evaluation_windows(WindowMethod::kStrided, 1000, 64, 32);
  EXPECT_EQ(half.size(), 31u);
  EXPECT_EQ(scored(half), 999);
  EXPECT_EQ(weight(half), 999);
  const auto disjoint = evaluation_windows(WindowMethod::kStrided, 1000, 64, 64);
  EXPECT_EQ(scored(disjoint), 984);
  EXPECT_EQ(weight(disjoint), 984);
}

TEST(EvaluationWindows, HuggingFaceWeights) {
  const auto half = evaluation_windows(WindowMethod::kHfStrided, 1000, 64, 32);
  EXPECT_EQ(scored(half), 999);
  EXPECT_EQ(weight(half), 969);
  const auto disjoint = evaluation_windows(WindowMethod::kHfStrided, 1000, 64, 64);
  EXPECT_EQ(scored(disjoint), 984);
  EXPECT_EQ(weight(disjoint), 984);
}

TEST(EvaluationWindows, StridedScoresEachTargetOnce) {
  for (std::int64_t tokens = 2; tokens < 60; ++tokens) {
    for (std::int64_t stride = 1; stride < 7; ++stride) {
      const auto windows = evaluation_windows(WindowMethod::kStrided, tokens, 7, stride);
      auto times = times_scored(windows, tokens, 6);
      EXPECT_EQ(times[0], 0);
      times.erase(times.begin());
      EXPECT_THAT(times, Each(1)) << tokens << " tokens, stride " << stride;
    }
  }
}

TEST(EvaluationWindows, MegatronScoresEachTargetOnce) {
  EXPECT_EQ(scored(evaluation_windows(WindowMethod::kMegatron, 1000, 64, 64)), 999);
  EXPECT_EQ(scored(evaluation_windows(WindowMethod::kMegatron, 1000, 64, 32)), 999);
  for (std::int64_t tokens = 2; tokens < 60; ++tokens) {
    for (std::int64_t stride = 1; stride <= 7; ++stride) {
      const auto windows = evaluation_windows(WindowMethod::kMegatron, tokens, 7, stride);
      auto times = times_scored(windows, tokens, 7);
      times.erase(times.begin());
      EXPECT_THAT(times, Each(1)) << tokens << " tokens, stride " << stride;
    }
  }
}

TEST(EvaluationWindows, RollingKnownAnswer) {
  const auto windows = evaluation_windows(WindowMethod::kRolling, 25, 10, 10);
  ASSERT_EQ(windows.size(), 3u);
  const std::int64_t expected[3][3] = {{-1, 10, 0}, {9, 10, 0}, {14, 10, 5}};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(windows[i].begin, expected[i][0]);
    EXPECT_EQ(windows[i].length, expected[i][1]);
    EXPECT_EQ(windows[i].first_scored, expected[i][2]);
  }
}

TEST(EvaluationWindows, RollingScoresEveryTokenOnce) {
  for (std::int64_t tokens = 1; tokens < 60; ++tokens) {
    for (std::int64_t context = 1; context < 9; ++context) {
      const auto windows = evaluation_windows(WindowMethod::kRolling, tokens, context, context);
      EXPECT_THAT(times_scored(windows, tokens, context), Each(1));
    }
  }
}

// The definitions as lm-evaluation-harness writes them: get_rolling_token_windows with context_len
// 1, then make_disjoint_window, over the stream [0, tokens) with the prefix token -1.
TEST(EvaluationWindows, RollingEqualsLmEvaluationHarness) {
  for (std::int64_t tokens = 1; tokens < 40; ++tokens) {
    for (std::int64_t context = 1; context < 9; ++context) {
      std::vector<std::array<std::int64_t, 3>> expected;  // first input, inputs, first scored
      std::int64_t predicted = std::min(context, tokens);
      expected.push_back({-1, predicted, 0});
      while (predicted < tokens) {
        const std::int64_t predictions = std::min(tokens - predicted, context);
        const std::int64_t end = predicted + predictions;
        // inputs[end - context - 1 : end - 1] predict [end - predictions : end]; made disjoint, the
        // context keeps context - (predictions - 1) tokens, and the model reads it and all
        // predicted tokens but the last.
        const std::int64_t kept = context - (predictions - 1);
        expected.push_back({end - context - 1, kept + predictions - 1, kept - 1});
        predicted = end;
      }
      std::vector<std::array<std::int64_t, 3>> found;
      for (const auto& w : evaluation_windows(WindowMethod::kRolling, tokens, context, context)) {
        found.push_back({w.begin, w.length, w.first_scored});
      }
      EXPECT_EQ(found, expected) << tokens << " tokens, context " << context;
    }
  }
}

// Megatron-LM's GPT2LM data set: windows of S + 1 tokens, padded; a mask over targets.
TEST(EvaluationWindows, MegatronEqualsItsMasks) {
  for (std::int64_t tokens = 2; tokens < 40; ++tokens) {
    for (std::int64_t stride = 1; stride <= 7; ++stride) {
      constexpr std::int64_t kSequence = 7;
      const std::int64_t targets = std::max<std::int64_t>(tokens - 1 - stride, 0);
      const std::int64_t count = std::max<std::int64_t>((targets + stride - 1) / stride + 1, 1);
      std::vector<std::pair<std::int64_t, std::int64_t>> expected, found;  // window's begin, target
      for (std::int64_t k = 0; k < count; ++k) {
        for (std::int64_t i = 0; i < kSequence; ++i) {
          const bool padding = k * stride + i + 1 >= tokens;
          const bool overlap = k > 0 && stride != kSequence && i < kSequence - stride;
          if (!padding && !overlap) expected.emplace_back(k * stride, k * stride + i + 1);
        }
      }
      for (const auto& w : evaluation_windows(WindowMethod::kMegatron, tokens, kSequence, stride)) {
        for (std::int64_t i = w.first_scored; i < w.length; ++i) {
          found.emplace_back(w.begin, w.begin + i + 1);
        }
      }
      EXPECT_EQ(found, expected) << tokens << " tokens, stride " << stride;
    }
  }
}

TEST(EvaluationWindows, ShortStreamsHaveNothingToScore) {
  for (const WindowMethod method :
       {WindowMethod::kStrided, WindowMethod::kHfStrided, WindowMethod::kMegatron}) {
    EXPECT_TRUE(evaluation_windows(method, 0, 8, 4).empty());
    EXPECT_TRUE(evaluation_windows(method, 1, 8, 4).empty());
  }
  EXPECT_TRUE(evaluation_windows(WindowMethod::kRolling, 0, 8, 8).empty());
}

TEST(EvaluationWindows, RefusesAStrideThatSkipsTokens) {
  for (const std::int64_t stride : {0, -1, 9}) {
    EXPECT_THAT(
        testing::error_of([&] { evaluation_windows(WindowMethod::kStrided, 100, 8, stride); }),
        HasSubstr("does not lie in [1, 8], the context"));
  }
}

TEST(Perplexity, Formulas) {
  const double nll = 100 * std::log(8.0);  // 100 tokens of 3 bits
  EXPECT_NEAR(token_perplexity(nll, 100), 8, 1e-12);
  EXPECT_NEAR(bits_per_byte(nll, 400), 0.75, 1e-12);
  EXPECT_NEAR(byte_perplexity(nll, 400), std::exp2(0.75), 1e-12);
  EXPECT_NEAR(word_perplexity(nll, 50), 64, 1e-10);
  EXPECT_NEAR(megatron_adjusted_perplexity(std::log(8.0), 101, 51), 64, 1e-10);
  EXPECT_NEAR(megatron_perplexity(50), std::exp(20.0), 1e-3);
}

}  // namespace
}  // namespace polyhead
