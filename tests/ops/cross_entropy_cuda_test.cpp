#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "framework/ops/cross_entropy.h"
#include "tests/support/cuda_operands.h"

namespace polyhead::ops {
namespace {

using testing::at;
using testing::bitwise_equal;
using testing::Operand;
using testing::Placement;
using testing::to_host;

constexpr double kWeight = 0.25;
constexpr DType kDTypes[] = {DType::kF32, DType::kBf16};

// The first id, the last, ignored tokens, and others.
Tensor some_targets(std::int64_t tokens, std::int64_t vocabulary) {
  Tensor targets = Tensor::empty({tokens}, DType::kI32);
  for (std::int64_t n = 0; n < tokens; ++n) {
    const std::int64_t target = n == 0   ? 0
                                : n == 1 ? vocabulary - 1
                                : n == 4 ? -1
                                : n == 7 ? -100
                                         : n * 7919 % vocabulary;
    targets.data<std::int32_t>()[n] = static_cast<std::int32_t>(target);
  }
  return targets;
}

struct Result {
  Tensor losses;
  Tensor lse;
  Tensor gradient;  // (N, vocabulary)
};

// The op over `shards` slices of the vocabulary, each with padding columns of NaN, on the device of
// the targets.
Result over_shards(const Tensor& logits, const Tensor& targets, DType dtype, std::int64_t shards,
                   std::int64_t padding, Placement placement) {
  const Device device = targets.device();
  const std::int64_t tokens = logits.rows(), vocabulary = logits.cols();
  const std::int64_t width = (vocabulary + shards - 1) / shards + padding;
  const DType sums = device == Device::kCuda ? DType::kF32 : DType::kF64;
  const auto first_id = [&](std::int64_t shard) { return std::min(shard * width, vocabulary); };
  const auto valid = [&](std::int64_t shard) { return first_id(shard + 1) - first_id(shard); };
  std::vector<Operand> parts;
  const auto logits_of = [&](std::int64_t shard) -> Tensor& {
    Operand& part = parts[static_cast<std::size_t>(shard)];
    return device == Device::kCuda ? part.device : part.host;
  };
  Tensor gathered = testing::poisoned({shards, tokens, 3}, sums).to(device);
  for (std::int64_t shard = 0; shard < shards; ++shard) {
    Tensor part = testing::poisoned({tokens, width}, DType::kF64);
    Tensor columns = part.column_slice(0, valid(shard));
    columns.copy_from(logits.column_slice(first_id(shard), first_id(shard + 1)));
    parts.emplace_back(part, dtype, placement);
    Tensor statistics = gathered.row_slice(shard, shard + 1).reshaped({tokens, 3});
    cross_entropy_statistics(logits_of(shard), targets, first_id(shard), valid(shard), statistics);
  }
  Result result{testing::poisoned({tokens}, sums).to(device),
                testing::poisoned({tokens}, sums).to(device),
                testing::poisoned({tokens, vocabulary}, sums)};
  cross_entropy_combine(gathered, targets, result.losses, result.lse);
  for (std::int64_t shard = 0; shard < shards; ++shard) {
    Tensor& part = logits_of(shard);
    cross_entropy_backward(targets, result.lse, first_id(shard), valid(shard), kWeight, part);
    const Tensor gradient = to_host(part);
    Tensor columns = result.gradient.column_slice(first_id(shard), first_id(shard + 1));
    columns.copy_from(gradient.column_slice(0, valid(shard)));
    for (std::int64_t row = 0; row < tokens; ++row) {
      for (std::int64_t col = valid(shard); col < width; ++col) {
        EXPECT_EQ(at(gradient, row, col), 0) << row << ", " << col;
      }
    }
    parts[static_cast<std::size_t>(shard)].expect_surroundings_intact();
  }
  result.losses = to_host(result.losses);
  result.lse = to_host(result.lse);
  return result;
}

// The same over one shard, at once.
Result at_once(const Tensor& logits, const Tensor& targets, DType dtype, std::int64_t padding,
               Placement placement) {
  const std::int64_t tokens = logits.rows(), vocabulary = logits.cols();
  Tensor padded = testing::poisoned({tokens, vocabulary + padding}, DType::kF64);
  Tensor columns = padded.column_slice(0, vocabulary);
  columns.copy_from(logits);
  Operand all(padded, dtype, placement);
  Tensor losses = testing::poisoned({tokens}, DType::kF32).to(Device::kCuda);
  Tensor lse = losses.clone();
  cross_entropy_loss_and_gradient(targets, vocabulary, kWeight, all.device, losses, lse);
  const Tensor gradient = to_host(all.device);
  for (std::int64_t row = 0; row < tokens; ++row) {
    for (std::int64_t col = vocabulary; col < gradient.cols(); ++col) {
      EXPECT_EQ(at(gradient, row, col), 0) << row << ", " << col;
    }
  }
  all.expect_surroundings_intact();
  return {to_host(losses), to_host(lse), gradient.column_slice(0, vocabulary)};
}

struct Case {
  std::int64_t tokens, vocabulary, shards, padding;
  Placement placement;
};

TEST(CrossEntropyCuda, EqualsTheCpuOverAnyShards) {
  for (const DType dtype : kDTypes) {
    for (const Case& c :
         {Case{11, 257, 1, 3, testing::kUnaligned}, Case{11, 257, 2, 3, testing::kAlone},
          Case{11, 257, 4, 7, testing::kAligned},
          Case{11, 5, 4, 0, testing::kAlone},  // ranks without columns
          Case{300, 4096, 1, 64, testing::kAlone},
          Case{9, 50257, 1, 0, testing::kAlone},  // rows at any address
          Case{9, 50257, 2, 47, testing::kUnaligned}, Case{2, 262144, 1, 0, testing::kAlone}}) {
      SCOPED_TRACE(fmt::format("{}: {} x {} over {}, {} more, behind {} columns", name_of(dtype),
                               c.tokens, c.vocabulary, c.shards, c.padding, c.placement.before));
      const Tensor targets = some_targets(c.tokens, c.vocabulary);
      const Tensor logits = testing::random_tensor({c.tokens, c.vocabulary}, DType::kF64, "l", 4.0);
      const auto compute = [&](Device device) {
        return over_shards(logits, targets.to(device), dtype, c.shards, c.padding, c.placement);
      };
      const Result want = compute(Device::kCpu), got = compute(Device::kCuda);
      EXPECT_LE(testing::relative_error(got.losses, want.losses), 2e-6);
      EXPECT_LE(testing::relative_error(got.lse, want.lse), 2e-6);
      // A probability is off by the absolute error of the f32 lse; then it is rounded.
      EXPECT_LE(testing::relative_error(got.gradient, want.gradient),
                testing::rounding(dtype) + 4e-6);
      const Result again = compute(Device::kCuda);
      EXPECT_TRUE(bitwise_equal(again.losses, got.losses));
      EXPECT_TRUE(bitwise_equal(again.lse, got.lse));
      EXPECT_TRUE(bitwise_equal(again.gradient, got.gradient));
    }
  }
}

TEST(CrossEntropyCuda, LossAndGradientAtOnceEqualTheCpu) {
  for (const DType dtype : kDTypes) {
    for (const Case& c :
         {Case{11, 5, 1, 0, testing::kUnaligned},  // fewer columns than threads
          Case{11, 257, 1, 3, testing::kUnaligned}, Case{300, 4096, 1, 64, testing::kAligned},
          Case{9, 50257, 1, 0, testing::kAlone},  // rows at any address
          Case{9, 50257, 1, 47, testing::kUnaligned}, Case{150, 50304, 1, 0, testing::kAlone},
          Case{30, 262144, 1, 7, testing::kUnaligned},
          Case{2, 1000003, 1, 0, testing::kAlone}}) {  // wider than shared memory
      SCOPED_TRACE(fmt::format("{}: {} x {}, {} more, behind {} columns", name_of(dtype), c.tokens,
                               c.vocabulary, c.padding, c.placement.before));
      const Tensor targets = some_targets(c.tokens, c.vocabulary);
      const Tensor logits = testing::random_tensor({c.tokens, c.vocabulary}, DType::kF64, "l", 4.0);
      const Result want = over_shards(logits, targets, dtype, 1, c.padding, c.placement);
      const auto compute = [&] {
        return at_once(logits, targets.to(Device::kCuda), dtype, c.padding, c.placement);
      };
      const Result got = compute(), again = compute();
      EXPECT_LE(testing::relative_error(got.losses, want.losses), 2e-6);
      EXPECT_LE(testing::relative_error(got.lse, want.lse), 2e-6);
      EXPECT_LE(testing::relative_error(got.gradient, want.gradient),
                testing::rounding(dtype) + 4e-6);
      EXPECT_TRUE(bitwise_equal(again.losses, got.losses));
      EXPECT_TRUE(bitwise_equal(again.lse, got.lse));
      EXPECT_TRUE(bitwise_equal(again.gradient, got.gradient));
    }
  }
}

Result on_device(const Tensor& logits, std::int32_t target, DType dtype, std::int64_t shards = 1) {
  const Tensor targets = testing::int_tensor({target}).to(Device::kCuda);
  return over_shards(logits, targets, dtype, shards, 3, testing::kAlone);
}

TEST(CrossEntropyCuda, WideRowsRescaleTheSum) {
  for (const DType dtype : kDTypes) {
    Tensor logits = testing::random_tensor({1, 60007}, DType::kF64, "wide");
    // The maximum rises by more than exp() covers, late in the row.
    logits.data<double>()[59000] = 512;
    const Tensor targets = testing::int_tensor({59000}).to(Device::kCuda);
    for (const Result& result :
         {on_device(logits, 59000, dtype), at_once(logits, targets, dtype, 3, testing::kAlone)}) {
      EXPECT_EQ(at(result.losses, 0, 0), 0);
      EXPECT_EQ(at(result.lse, 0, 0), 512);
      EXPECT_EQ(at(result.gradient, 0, 0), 0);
    }
  }
}

// A loss much smaller than the logits keeps its digits.
TEST(CrossEntropyCuda, ASmallLossIsAccurate) {
  Tensor logits = testing::filled({1, 100}, DType::kF64, 1000);
  logits.data<double>()[31] = 1016;
  const double want = std::log1p(99 * std::exp(-16.0));
  EXPECT_NEAR(at(on_device(logits, 31, DType::kF32).losses, 0, 0), want, 2e-7);
}

TEST(CrossEntropyCuda, NonFiniteLogitsAreNotHidden) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : kDTypes) {
    for (const double bad : {nan, infinity}) {
      for (std::int64_t column = 0; column < 257; column += column < 40 ? 1 : 31) {
        Tensor logits = testing::random_tensor({1, 257}, DType::kF64, "logits");
        logits.data<double>()[column] = bad;
        const Result result = on_device(logits, 100, dtype, 2);
        ASSERT_FALSE(std::isfinite(at(result.losses, 0, 0))) << bad << " in column " << column;
        const Result once = at_once(logits, testing::int_tensor({100}).to(Device::kCuda), dtype, 0,
                                    testing::kAlone);
        ASSERT_FALSE(std::isfinite(at(once.losses, 0, 0))) << bad << " in column " << column;
      }
    }
    const Tensor masked = testing::filled({1, 40}, DType::kF64, -infinity);
    EXPECT_FALSE(std::isfinite(at(on_device(masked, 3, dtype).losses, 0, 0)));
  }
}

TEST(CrossEntropyCuda, MaskedColumnsHaveNoProbability) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : kDTypes) {
    // So many that some threads, and one of the shards, see nothing else.
    Tensor logits = testing::random_tensor({1, 5000}, DType::kF64, "logits");
    std::fill_n(logits.data<double>() + 100, 4800, -infinity);
    const Result result = on_device(logits, 3, dtype, 4);
    EXPECT_EQ(at(result.gradient, 0, 700), 0);
    std::fill_n(logits.data<double>() + 100, 4800, -1e4);
    const Result want = over_shards(logits, testing::int_tensor({3}), dtype, 1, 0, testing::kAlone);
    EXPECT_LE(testing::relative_error(result.losses, want.losses), 2e-6);
    EXPECT_LE(testing::relative_error(result.gradient, want.gradient),
              testing::rounding(dtype) + 4e-6);
  }
}

TEST(CrossEntropyCuda, NothingToDo) {
  Tensor logits = Tensor::zeros({0, 8}, DType::kF32, Device::kCuda);
  const Tensor targets = Tensor::zeros({0}, DType::kI32, Device::kCuda);
  Tensor statistics = Tensor::zeros({0, 3}, DType::kF32, Device::kCuda);
  Tensor losses = Tensor::zeros({0}, DType::kF32, Device::kCuda), lse = losses.clone();
  cross_entropy_statistics(logits, targets, 0, 8, statistics);
  cross_entropy_combine(statistics.reshaped({1, 0, 3}), targets, losses, lse);
  cross_entropy_backward(targets, lse, 0, 8, 1.0, logits);
  cross_entropy_loss_and_gradient(targets, 8, 1.0, logits, losses, lse);
}

// A logit that is not a number leaves no trace in the gradient of an ignored token.
TEST(CrossEntropyCuda, AnIgnoredTokenHasNoGradientAtOnce) {
  for (const DType dtype : kDTypes) {
    const Tensor logits =
        testing::filled({1, 1000}, DType::kF64, std::numeric_limits<double>::quiet_NaN());
    const Tensor targets = testing::int_tensor({-1}).to(Device::kCuda);
    const Result result = at_once(logits, targets, dtype, 3, testing::kAlone);
    EXPECT_EQ(at(result.losses, 0, 0), 0);
    for (std::int64_t col = 0; col < 1000; ++col) EXPECT_EQ(at(result.gradient, 0, col), 0);
  }
}

}  // namespace
}  // namespace polyhead::ops
