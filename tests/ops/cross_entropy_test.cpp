#include "framework/ops/cross_entropy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/gradcheck.h"
#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

using testing::at;

constexpr std::int64_t kTokens = 11, kVocabulary = 257;
constexpr double kTolerance[] = {1e-14, 1e-6};  // f64, f32

// The first, the last and one ignored token among them.
Tensor some_targets() {
  return testing::int_tensor({0, 256, 128, 85, 86, -1, 171, 17, 200, -100, 42});
}

struct Result {
  Tensor losses;
  Tensor lse;
  Tensor gradient;  // (N, vocabulary)
  Tensor greedy;    // (N)
};

// The op over `shards` slices of the vocabulary, each padded with NaN columns.
Result over_shards(const Tensor& logits, const Tensor& targets, std::int64_t shards,
                   double weight) {
  const std::int64_t tokens = logits.rows(), vocabulary = logits.cols();
  const std::int64_t width = (vocabulary + shards - 1) / shards + 3;
  const DType dtype = logits.dtype();
  std::vector<Tensor> parts;
  Tensor gathered = testing::poisoned({shards, tokens, 3}, dtype);
  const auto first_id = [&](std::int64_t shard) { return std::min(shard * width, vocabulary); };
  const auto valid = [&](std::int64_t shard) { return first_id(shard + 1) - first_id(shard); };
  for (std::int64_t shard = 0; shard < shards; ++shard) {
    Tensor part = testing::poisoned({tokens, width}, dtype);
    Tensor columns = part.column_slice(0, valid(shard));
    columns.copy_from(logits.column_slice(first_id(shard), first_id(shard + 1)));
    Tensor statistics = gathered.row_slice(shard, shard + 1).reshaped({tokens, 3});
    cross_entropy_statistics(part, targets, first_id(shard), valid(shard), statistics);
    parts.push_back(part);
  }
  Result result{testing::poisoned({tokens}, dtype), testing::poisoned({tokens}, dtype),
                testing::poisoned({tokens, vocabulary}, dtype),
                cross_entropy_greedy(gathered, targets)};
  cross_entropy_combine(gathered, targets, result.losses, result.lse);
  for (std::int64_t shard = 0; shard < shards; ++shard) {
    Tensor part = parts[static_cast<std::size_t>(shard)];
    cross_entropy_backward(targets, result.lse, first_id(shard), valid(shard), weight, part);
    Tensor columns = result.gradient.column_slice(first_id(shard), first_id(shard + 1));
    columns.copy_from(part.column_slice(0, valid(shard)));
    for (std::int64_t row = 0; row < tokens; ++row) {
      for (std::int64_t col = valid(shard); col < width; ++col) EXPECT_EQ(at(part, row, col), 0);
    }
  }
  return result;
}

Tensor expected_losses(const Tensor& logits, const Tensor& targets) {
  return testing::reference(Tensor::empty({logits.rows()}, DType::kF64),
                            [&](std::int64_t, std::int64_t token) {
                              const std::int32_t target = targets.data<std::int32_t>()[token];
                              if (target < 0) return 0.0;
                              double sum = 0;
                              for (std::int64_t v = 0; v < logits.cols(); ++v)
                                sum += std::exp(at(logits, token, v));
                              return std::log(sum) - at(logits, token, target);
                            });
}

TEST(CrossEntropy, KnowsTheLargestLogitOverAnyShards) {
  const Tensor targets = some_targets();
  Tensor logits = testing::strided_random(kTokens, kVocabulary, DType::kF32, "logits", 4.0);
  const auto logit = [&](std::int64_t token, std::int64_t column) -> float& {
    return logits.data<float>()[token * logits.row_stride() + column];
  };
  logit(0, 0) = logit(1, 256) = logit(3, 85) = 50;
  logit(2, 127) = logit(2, 128) = 50;  // shared, on the edge of two shards
  logit(4, 86) = 50;
  logit(4, 200) = 51;
  logit(10, 42) = -50;
  for (const std::int64_t shards : {1, 2, 3, 4}) {
    const Tensor greedy = over_shards(logits, targets, shards, 1.0).greedy;
    const std::int32_t* is_greedy = greedy.data<std::int32_t>();
    for (const std::int64_t token : {0, 1, 2, 3}) EXPECT_EQ(is_greedy[token], 1) << token;
    for (const std::int64_t token : {4, 5, 9, 10}) EXPECT_EQ(is_greedy[token], 0) << token;
  }
}

TEST(CrossEntropy, EqualsTheDefinitionOverAnyShards) {
  const Tensor targets = some_targets();
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    const Tensor logits = testing::strided_random(kTokens, kVocabulary, dtype, "logits", 4.0);
    const Tensor losses = expected_losses(logits, targets);
    const double weight = 0.25, tolerance = kTolerance[static_cast<int>(dtype)];
    for (const std::int64_t shards : {1, 2, 3, 4}) {
      const Result result = over_shards(logits, targets, shards, weight);
      EXPECT_LE(testing::relative_error(result.losses, losses), tolerance);
      const Tensor gradient =
          testing::reference(logits, [&](std::int64_t token, std::int64_t column) {
            const std::int32_t target = targets.data<std::int32_t>()[token];
            if (target < 0) return 0.0;
            const double lse = at(losses, 0, token) + at(logits, token, target);
            return weight * (std::exp(at(logits, token, column) - lse) - (column == target));
          });
      EXPECT_LE(testing::relative_error(result.gradient, gradient), tolerance) << shards;
    }
  }
}

TEST(CrossEntropy, Gradients) {
  const Tensor targets = testing::int_tensor({4, -1, 18, 0});
  const Tensor logits = testing::random_tensor({4, 19}, DType::kF64, "logits");
  const double weight = 0.7;
  testing::GradientCheck check;
  check.add("logits", logits, over_shards(logits, targets, 2, weight).gradient);
  check.expect_close([&] {
    const Tensor losses = over_shards(logits, targets, 2, weight).losses;
    double sum = 0;
    for (std::int64_t token = 0; token < 4; ++token) sum += weight * at(losses, 0, token);
    return sum;
  });
}

TEST(CrossEntropy, WideRowsRescaleTheSum) {
  constexpr std::int64_t kWide = 10007;
  Tensor logits = testing::random_tensor({1, kWide}, DType::kF32, "wide");
  // The maximum rises by more than exp() covers, late in the row.
  logits.data<float>()[9000] = 500;
  const Result result = over_shards(logits, testing::int_tensor({9000}), 1, 1.0);
  EXPECT_EQ(at(result.losses, 0, 0), 0);
  EXPECT_EQ(at(result.lse, 0, 0), 500);
}

TEST(CrossEntropy, NonFiniteLogitsAreNotHidden) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    for (const double bad : {nan, infinity}) {
      for (std::int64_t column = 0; column < kVocabulary; ++column) {
        Tensor logits = testing::random_tensor({1, kVocabulary}, dtype, "logits");
        dispatch_cpu_float(dtype,
                           [&]<class T>() { logits.data<T>()[column] = static_cast<T>(bad); });
        const Result result = over_shards(logits, testing::int_tensor({100}), 2, 1.0);
        ASSERT_FALSE(std::isfinite(at(result.losses, 0, 0))) << bad << " in column " << column;
      }
    }
    const Tensor masked = testing::filled({1, 40}, dtype, -infinity);
    EXPECT_FALSE(
        std::isfinite(at(over_shards(masked, testing::int_tensor({3}), 1, 1.0).losses, 0, 0)));
  }
}

TEST(CrossEntropy, AMaskedColumnHasNoProbability) {
  Tensor logits = testing::random_tensor({1, 40}, DType::kF32, "logits");
  logits.data<float>()[7] = -std::numeric_limits<float>::infinity();
  const Result result = over_shards(logits, testing::int_tensor({3}), 1, 1.0);
  EXPECT_TRUE(std::isfinite(at(result.losses, 0, 0)));
  EXPECT_EQ(at(result.gradient, 0, 7), 0);
}

TEST(CrossEntropy, BitsDoNotDependOnThreads) {
  const Tensor logits = testing::random_tensor({200, 3001}, DType::kF32, "logits");
  Tensor targets = Tensor::empty({200}, DType::kI32);
  for (std::int32_t i = 0; i < 200; ++i) targets.data<std::int32_t>()[i] = 15 * i;
  testing::expect_same_with_any_threads([&] {
    const Result result = over_shards(logits, targets, 1, 0.5);
    return std::vector<Tensor>{result.losses, result.lse, result.gradient};
  });
}

TEST(CrossEntropy, LossAndGradientAtOnceAreTheThreeInTurn) {
  const Tensor targets = some_targets();
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    const Tensor logits = testing::random_tensor({kTokens, kVocabulary}, dtype, "logits", 4.0);
    const Result want = over_shards(logits, targets, 1, 0.25);
    Tensor gradient = testing::poisoned({kTokens, kVocabulary + 3}, dtype);
    Tensor columns = gradient.column_slice(0, kVocabulary);
    columns.copy_from(logits);
    Tensor losses = testing::poisoned({kTokens}, dtype), lse = testing::poisoned({kTokens}, dtype);
    cross_entropy_loss_and_gradient(targets, kVocabulary, 0.25, gradient, losses, lse);
    EXPECT_TRUE(testing::bitwise_equal(losses, want.losses));
    EXPECT_TRUE(testing::bitwise_equal(lse, want.lse));
    EXPECT_TRUE(testing::bitwise_equal(columns, want.gradient));
    for (std::int64_t row = 0; row < kTokens; ++row) EXPECT_EQ(at(gradient, row, kVocabulary), 0);
  }
}

TEST(CrossEntropy, RefusesNegativeWeights) {
  const Tensor targets = testing::int_tensor({1, 2, 3});
  Tensor logits = Tensor::zeros({3, 8}, DType::kF32);
  Tensor losses = Tensor::zeros({3}, DType::kF32), lse = Tensor::zeros({3}, DType::kF32);
  EXPECT_THROW(cross_entropy_backward(targets, lse, 0, 8, -1.0, logits), std::logic_error);
  EXPECT_THROW(cross_entropy_loss_and_gradient(targets, 8, -1.0, logits, losses, lse),
               std::logic_error);
  EXPECT_NO_THROW(cross_entropy_loss_and_gradient(targets, 8, 0.0, logits, losses, lse));
}

TEST(CrossEntropy, RefusesWrongShapes) {
  const Tensor logits = Tensor::zeros({3, 8}, DType::kF32);
  Tensor statistics = Tensor::zeros({3, 3}, DType::kF32);
  EXPECT_THROW(cross_entropy_statistics(logits, testing::int_tensor({1, 2}), 0, 8, statistics),
               std::logic_error);
  EXPECT_THROW(cross_entropy_statistics(logits, testing::int_tensor({1, 2, 3}), 0, 9, statistics),
               std::logic_error);
}

}  // namespace
}  // namespace polyhead::ops
