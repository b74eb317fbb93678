#include "framework/ops/distillation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/support/gradcheck.h"
#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

using testing::at;

constexpr std::int64_t kTokens = 11, kVocabulary = 257;
constexpr double kWeight = 0.25;
constexpr double kTolerance[] = {1e-13, 4e-6};  // f64, f32

// The first, the last and two ignored tokens among them.
Tensor some_targets() {
  return testing::int_tensor({0, 256, 128, 85, 86, -1, 171, 17, 200, -100, 42});
}

struct Mix {
  double temperature, share;
};

struct Result {
  Tensor cross_entropies, divergences;
  Tensor gradient;  // (N, vocabulary)
};

// The op over `shards` slices of the vocabulary, padded with NaN columns, the teacher's with others
// than the student's.
Result over_shards(const Tensor& logits, const Tensor& teacher, const Tensor& targets,
                   std::int64_t shards, Mix mix) {
  const std::int64_t tokens = logits.rows(), vocabulary = logits.cols();
  const std::int64_t width = (vocabulary + shards - 1) / shards + 3;
  const DType dtype = logits.dtype();
  struct Part {
    std::int64_t begin, valid;
    Tensor logits, teacher;
  };
  std::vector<Part> parts;
  Tensor gathered = testing::poisoned({shards, tokens, kDistillationStatistics}, dtype);
  for (std::int64_t shard = 0; shard < shards; ++shard) {
    const std::int64_t begin = std::min(shard * width, vocabulary);
    const std::int64_t end = std::min(begin + width, vocabulary);
    Part part{begin, end - begin, testing::poisoned({tokens, width}, dtype),
              testing::poisoned({tokens, width + 5}, dtype)};
    part.logits.column_slice(0, part.valid).copy_from(logits.column_slice(begin, end));
    part.teacher.column_slice(0, part.valid).copy_from(teacher.column_slice(begin, end));
    Tensor statistics =
        gathered.row_slice(shard, shard + 1).reshaped({tokens, kDistillationStatistics});
    distillation_statistics(part.logits, part.teacher, targets, begin, part.valid, mix.temperature,
                            statistics);
    parts.push_back(std::move(part));
  }
  Result result{testing::poisoned({tokens}, dtype), testing::poisoned({tokens}, dtype),
                testing::poisoned({tokens, vocabulary}, dtype)};
  Tensor log_sums = testing::poisoned({tokens, 3}, dtype);
  distillation_combine(gathered, targets, mix.temperature, result.cross_entropies,
                       result.divergences, log_sums);
  for (Part& part : parts) {
    distillation_backward(part.teacher, targets, log_sums, part.begin, part.valid, mix.temperature,
                          mix.share, kWeight, part.logits);
    result.gradient.column_slice(part.begin, part.begin + part.valid)
        .copy_from(part.logits.column_slice(0, part.valid));
    for (std::int64_t row = 0; row < tokens; ++row) {
      for (std::int64_t col = part.valid; col < width; ++col) {
        EXPECT_EQ(at(part.logits, row, col), 0);
      }
    }
  }
  return result;
}

// log softmax(logits / temperature), in f64 by the definition.
Tensor log_softmax(const Tensor& logits, double temperature) {
  std::vector<double> log_sums;
  for (std::int64_t row = 0; row < logits.rows(); ++row) {
    double sum = 0;
    for (std::int64_t v = 0; v < logits.cols(); ++v) {
      sum += std::exp(at(logits, row, v) / temperature);
    }
    log_sums.push_back(std::log(sum));
  }
  return testing::reference(logits, [&](std::int64_t row, std::int64_t v) {
    return at(logits, row, v) / temperature - log_sums[static_cast<std::size_t>(row)];
  });
}

Result definition(const Tensor& logits, const Tensor& teacher, const Tensor& targets, Mix mix) {
  const Tensor hard = log_softmax(logits, 1), soft = log_softmax(logits, mix.temperature);
  const Tensor known = log_softmax(teacher, mix.temperature);
  const auto target = [&](std::int64_t token) { return targets.data<std::int32_t>()[token]; };
  const Tensor per_token = Tensor::empty({logits.rows()}, DType::kF64);
  return {testing::reference(per_token,
                             [&](std::int64_t, std::int64_t token) {
                               return target(token) < 0 ? 0.0 : -at(hard, token, target(token));
                             }),
          testing::reference(per_token,
                             [&](std::int64_t, std::int64_t token) {
                               double kl = 0;
                               for (std::int64_t v = 0; v < logits.cols(); ++v) {
                                 kl += std::exp(at(known, token, v)) *
                                       (at(known, token, v) - at(soft, token, v));
                               }
                               const double scale = mix.temperature * mix.temperature;
                               return target(token) < 0 ? 0.0 : scale * kl;
                             }),
          testing::reference(logits, [&](std::int64_t token, std::int64_t v) {
            if (target(token) < 0) return 0.0;
            const double one = std::exp(at(hard, token, v)) - (v == target(token));
            const double other = std::exp(at(soft, token, v)) - std::exp(at(known, token, v));
            return kWeight * ((1 - mix.share) * one + mix.share * mix.temperature * other);
          })};
}

void expect_close(const Result& got, const Result& want, double tolerance) {
  EXPECT_LE(testing::relative_error(got.cross_entropies, want.cross_entropies), tolerance);
  EXPECT_LE(testing::relative_error(got.divergences, want.divergences), tolerance);
  EXPECT_LE(testing::relative_error(got.gradient, want.gradient), tolerance);
}

TEST(Distillation, EqualsTheDefinitionOverAnyShards) {
  const Tensor targets = some_targets();
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    const Tensor logits = testing::strided_random(kTokens, kVocabulary, dtype, "logits", 4.0);
    const Tensor teacher = testing::strided_random(kTokens, kVocabulary, dtype, "teacher", 3.0);
    for (const Mix mix : {Mix{1, 0.5}, Mix{2.5, 0.3}, Mix{0.7, 1}}) {
      const Result want = definition(logits, teacher, targets, mix);
      for (const std::int64_t shards : {1, 2, 3, 4, 300}) {
        SCOPED_TRACE(fmt::format("{} over {}, T {}", name_of(dtype), shards, mix.temperature));
        expect_close(over_shards(logits, teacher, targets, shards, mix), want,
                     kTolerance[static_cast<int>(dtype)]);
      }
    }
  }
}

TEST(Distillation, Gradients) {
  const Tensor targets = testing::int_tensor({4, -1, 18, 0});
  const Tensor logits = testing::random_tensor({4, 19}, DType::kF64, "logits");
  const Tensor teacher = testing::random_tensor({4, 19}, DType::kF64, "teacher", 2.0);
  for (const Mix mix : {Mix{1, 0.5}, Mix{3, 0.7}, Mix{0.6, 1}}) {
    testing::GradientCheck check;
    check.add("logits", logits, over_shards(logits, teacher, targets, 2, mix).gradient);
    check.expect_close([&] {
      const Result result = over_shards(logits, teacher, targets, 2, mix);
      double sum = 0;
      for (std::int64_t token = 0; token < 4; ++token) {
        sum += kWeight * ((1 - mix.share) * at(result.cross_entropies, 0, token) +
                          mix.share * at(result.divergences, 0, token));
      }
      return sum;
    });
  }
}

TEST(Distillation, OfEqualLogitsIsExactlyNothing) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    const Tensor logits = testing::random_tensor({kTokens, kVocabulary}, dtype, "logits", 4.0);
    for (const double temperature : {1.0, 2.3}) {
      const Result result = over_shards(logits, logits, some_targets(), 3, {temperature, 1});
      EXPECT_EQ(testing::max_abs(result.divergences), 0);
      EXPECT_EQ(testing::max_abs(result.gradient), 0);
    }
  }
}

// Two models seldom agree on a constant that no probability depends on.
TEST(Distillation, ShiftsOfTheLogitsDoNotMatter) {
  const Tensor logits = testing::random_tensor({kTokens, kVocabulary}, DType::kF32, "logits");
  const Tensor teacher = testing::random_tensor({kTokens, kVocabulary}, DType::kF32, "teacher");
  const auto shifted = [](const Tensor& x, double by) {
    return testing::reference(x,
                              [&](std::int64_t row, std::int64_t v) { return at(x, row, v) + by; });
  };
  Tensor low = Tensor::empty_like(logits), high = Tensor::empty_like(teacher);
  for (std::int64_t i = 0; i < logits.numel(); ++i) {
    low.data<float>()[i] = logits.data<float>()[i] - 512;
    high.data<float>()[i] = teacher.data<float>()[i] + 1024;
  }
  const Mix mix{2, 0.5};
  const Result got = over_shards(low, high, some_targets(), 2, mix);
  const Result want = definition(shifted(low, 512), shifted(high, -1024), some_targets(), mix);
  EXPECT_LE(testing::relative_error(got.divergences, want.divergences), 1e-6);
}

TEST(Distillation, MaskedColumnsHaveNoProbability) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  Tensor logits = testing::random_tensor({1, 40}, DType::kF64, "logits");
  Tensor teacher = testing::random_tensor({1, 40}, DType::kF64, "teacher");
  const Mix mix{1.5, 0.5};
  const auto with = [&](double masked) {
    for (std::int64_t v = 7; v < 21; ++v) teacher.data<double>()[v] = masked;  // all of a shard
    logits.data<double>()[9] = masked;
    return over_shards(logits, teacher, testing::int_tensor({3}), 4, mix);
  };
  const Result got = with(-kInfinity), want = with(-1e3);
  EXPECT_TRUE(std::isfinite(at(got.divergences, 0, 0)));
  expect_close(got, want, 1e-13);
  teacher.data<double>()[9] = 0;
  logits.data<double>()[9] = -kInfinity;
  const Result impossible = over_shards(logits, teacher, testing::int_tensor({3}), 2, mix);
  EXPECT_EQ(at(impossible.divergences, 0, 0), kInfinity);
}

TEST(Distillation, NonFiniteLogitsAreNotHidden) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    for (const double bad : {nan, infinity}) {
      for (std::int64_t column = 0; column < kVocabulary; ++column) {
        Tensor logits = testing::random_tensor({1, kVocabulary}, dtype, "logits");
        Tensor teacher = testing::random_tensor({1, kVocabulary}, dtype, "teacher");
        Tensor& spoilt = column % 2 == 0 ? logits : teacher;
        dispatch_cpu_float(dtype,
                           [&]<class T>() { spoilt.data<T>()[column] = static_cast<T>(bad); });
        const Result result = over_shards(logits, teacher, testing::int_tensor({100}), 2, {2, 0.5});
        ASSERT_FALSE(std::isfinite(at(result.divergences, 0, 0))) << bad << " in " << column;
      }
    }
  }
}

TEST(Distillation, BitsDoNotDependOnThreads) {
  const Tensor logits = testing::random_tensor({200, 3001}, DType::kF32, "logits");
  const Tensor teacher = testing::random_tensor({200, 3001}, DType::kF32, "teacher");
  Tensor targets = Tensor::empty({200}, DType::kI32);
  for (std::int32_t i = 0; i < 200; ++i) targets.data<std::int32_t>()[i] = 15 * i;
  testing::expect_same_with_any_threads([&] {
    const Result result = over_shards(logits, teacher, targets, 1, {2, 0.5});
    return std::vector<Tensor>{result.cross_entropies, result.divergences, result.gradient};
  });
}

TEST(Distillation, RefusesWrongShapes) {
  const Tensor logits = Tensor::zeros({3, 8}, DType::kF32);
  const Tensor targets = testing::int_tensor({1, 2, 3});
  Tensor statistics = Tensor::zeros({3, kDistillationStatistics}, DType::kF32);
  const auto refused = [&](const Tensor& teacher, std::int64_t valid, double temperature) {
    EXPECT_THROW(
        distillation_statistics(logits, teacher, targets, 0, valid, temperature, statistics),
        std::logic_error);
  };
  refused(Tensor::zeros({2, 8}, DType::kF32), 8, 1);
  refused(Tensor::zeros({3, 7}, DType::kF32), 8, 1);
  refused(Tensor::zeros({3, 8}, DType::kF64), 8, 1);
  refused(logits, 8, 0);
}

}  // namespace
}  // namespace polyhead::ops
