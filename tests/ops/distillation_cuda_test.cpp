#include "framework/ops/distillation.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

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
                                         : n * 7919 % vocabulary;
    targets.data<std::int32_t>()[n] = static_cast<std::int32_t>(target);
  }
  return targets;
}

struct Mix {
  double temperature, share;
};

struct Result {
  Tensor cross_entropies, divergences;
  Tensor gradient;  // (N, vocabulary)
};

// The op over `shards` slices of the vocabulary, each with padding columns of NaN, on the device of
// the targets.
Result over_shards(const Tensor& logits, const Tensor& teacher, const Tensor& targets, DType dtype,
                   std::int64_t shards, std::int64_t padding, Placement placement, Mix mix) {
  const Device device = targets.device();
  const std::int64_t tokens = logits.rows(), vocabulary = logits.cols();
  const std::int64_t width = (vocabulary + shards - 1) / shards + padding;
  const DType sums = device == Device::kCuda ? DType::kF32 : DType::kF64;
  const auto first_id = [&](std::int64_t shard) { return std::min(shard * width, vocabulary); };
  const auto valid = [&](std::int64_t shard) { return first_id(shard + 1) - first_id(shard); };
  const auto part_of = [&](const Tensor& whole, std::int64_t shard) {
    Tensor part = testing::poisoned({tokens, width}, DType::kF64);
    part.column_slice(0, valid(shard))
        .copy_from(whole.column_slice(first_id(shard), first_id(shard + 1)));
    return Operand(part, dtype, placement);
  };
  const auto on_device = [&](Operand& part) -> Tensor& {
    return device == Device::kCuda ? part.device : part.host;
  };
  std::vector<Operand> parts, teachers;
  Tensor gathered = testing::poisoned({shards, tokens, kDistillationStatistics}, sums).to(device);
  for (std::int64_t shard = 0; shard < shards; ++shard) {
    parts.push_back(part_of(logits, shard));
    teachers.push_back(part_of(teacher, shard));
    Tensor statistics =
        gathered.row_slice(shard, shard + 1).reshaped({tokens, kDistillationStatistics});
    distillation_statistics(on_device(parts.back()), on_device(teachers.back()), targets,
                            first_id(shard), valid(shard), mix.temperature, statistics);
  }
  Result result{testing::poisoned({tokens}, sums).to(device),
                testing::poisoned({tokens}, sums).to(device),
                testing::poisoned({tokens, vocabulary}, sums)};
  Tensor log_sums = testing::poisoned({tokens, 3}, sums).to(device);
  distillation_combine(gathered, targets, mix.temperature, result.cross_entropies,
                       result.divergences, log_sums);
  for (std::int64_t shard = 0; shard < shards; ++shard) {
    const auto index = static_cast<std::size_t>(shard);
    Tensor& part = on_device(parts[index]);
    distillation_backward(on_device(teachers[index]), targets, log_sums, first_id(shard),
                          valid(shard), mix.temperature, mix.share, kWeight, part);
    const Tensor gradient = to_host(part);
    result.gradient.column_slice(first_id(shard), first_id(shard + 1))
        .copy_from(gradient.column_slice(0, valid(shard)));
    for (std::int64_t row = 0; row < tokens; ++row) {
      for (std::int64_t col = valid(shard); col < width; ++col) {
        EXPECT_EQ(at(gradient, row, col), 0) << row << ", " << col;
      }
    }
    parts[index].expect_surroundings_intact();
  }
  result.cross_entropies = to_host(result.cross_entropies);
  result.divergences = to_host(result.divergences);
  return result;
}

struct Case {
  std::int64_t tokens, vocabulary, shards, padding;
  Placement placement;
};

TEST(DistillationCuda, EqualsTheCpuOverAnyShards) {
  for (const DType dtype : kDTypes) {
    for (const Case& c :
         {Case{11, 257, 1, 3, testing::kUnaligned}, Case{11, 257, 2, 3, testing::kAlone},
          Case{11, 257, 4, 7, testing::kAligned},
          Case{11, 5, 4, 0, testing::kAlone},  // ranks without columns
          Case{300, 4096, 1, 64, testing::kAlone},
          Case{9, 50257, 1, 0, testing::kAlone},  // rows at any address
          Case{9, 50257, 2, 47, testing::kUnaligned}, Case{2, 262144, 1, 0, testing::kAlone}}) {
      for (const Mix mix : {Mix{1, 0.5}, Mix{2.5, 1}}) {
        SCOPED_TRACE(fmt::format("{}: {} x {} over {}, {} more, behind {} columns, T {}",
                                 name_of(dtype), c.tokens, c.vocabulary, c.shards, c.padding,
                                 c.placement.before, mix.temperature));
        const Tensor targets = some_targets(c.tokens, c.vocabulary);
        const Shape shape{c.tokens, c.vocabulary};
        const Tensor logits = testing::random_tensor(shape, DType::kF64, "l", 4.0);
        const Tensor teacher = testing::random_tensor(shape, DType::kF64, "t", 4.0);
        const auto compute = [&](Device device) {
          return over_shards(logits, teacher, targets.to(device), dtype, c.shards, c.padding,
                             c.placement, mix);
        };
        const Result want = compute(Device::kCpu), got = compute(Device::kCuda);
        EXPECT_LE(testing::relative_error(got.cross_entropies, want.cross_entropies), 2e-6);
        EXPECT_LE(testing::relative_error(got.divergences, want.divergences), 4e-6);
        // A probability is off by the absolute error of the f32 log sums; then it is rounded.
        EXPECT_LE(testing::relative_error(got.gradient, want.gradient),
                  testing::rounding(dtype) + 8e-6);
        const Result again = compute(Device::kCuda);
        EXPECT_TRUE(bitwise_equal(again.cross_entropies, got.cross_entropies));
        EXPECT_TRUE(bitwise_equal(again.divergences, got.divergences));
        EXPECT_TRUE(bitwise_equal(again.gradient, got.gradient));
      }
    }
  }
}

Result on_device(const Tensor& logits, const Tensor& teacher, DType dtype, Mix mix,
                 std::int64_t shards) {
  const Tensor targets = testing::int_tensor({3}).to(Device::kCuda);
  return over_shards(logits, teacher, targets, dtype, shards, 3, testing::kAlone, mix);
}

TEST(DistillationCuda, OfEqualLogitsIsExactlyNothing) {
  const Tensor logits = testing::random_tensor({1, 5003}, DType::kF64, "logits", 4.0);
  for (const DType dtype : kDTypes) {
    for (const double temperature : {1.0, 2.3}) {
      const Result result = on_device(logits, logits, dtype, {temperature, 1}, 3);
      EXPECT_EQ(testing::max_abs(result.divergences), 0);
      EXPECT_EQ(testing::max_abs(result.gradient), 0);
    }
  }
}

TEST(DistillationCuda, NonFiniteLogitsAreNotHidden) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : kDTypes) {
    for (const double bad : {nan, infinity}) {
      for (std::int64_t column = 0; column < 257; column += column < 40 ? 1 : 31) {
        Tensor logits = testing::random_tensor({1, 257}, DType::kF64, "logits");
        Tensor teacher = testing::random_tensor({1, 257}, DType::kF64, "teacher");
        (column % 2 == 0 ? logits : teacher).data<double>()[column] = bad;
        const Result result = on_device(logits, teacher, dtype, {2, 0.5}, 2);
        ASSERT_FALSE(std::isfinite(at(result.divergences, 0, 0))) << bad << " in " << column;
      }
    }
  }
}

TEST(DistillationCuda, MaskedColumnsHaveNoProbability) {
  const double infinity = std::numeric_limits<double>::infinity();
  for (const DType dtype : kDTypes) {
    // So many that some threads, and one of the shards, see nothing else.
    Tensor logits = testing::random_tensor({1, 5000}, DType::kF64, "logits");
    Tensor teacher = testing::random_tensor({1, 5000}, DType::kF64, "teacher");
    std::fill_n(teacher.data<double>() + 100, 4800, -infinity);
    const Result got = on_device(logits, teacher, dtype, {1.5, 0.5}, 4);
    std::fill_n(teacher.data<double>() + 100, 4800, -1e4);
    const Result want = over_shards(logits, teacher, testing::int_tensor({3}), dtype, 1, 0,
                                    testing::kAlone, {1.5, 0.5});
    EXPECT_LE(testing::relative_error(got.divergences, want.divergences), 4e-6);
    EXPECT_LE(testing::relative_error(got.gradient, want.gradient),
              testing::rounding(dtype) + 8e-6);
  }
}

TEST(DistillationCuda, NothingToDo) {
  Tensor logits = Tensor::zeros({0, 8}, DType::kF32, Device::kCuda);
  const Tensor targets = Tensor::zeros({0}, DType::kI32, Device::kCuda);
  Tensor statistics = Tensor::zeros({0, kDistillationStatistics}, DType::kF32, Device::kCuda);
  Tensor losses = Tensor::zeros({0}, DType::kF32, Device::kCuda), divergences = losses.clone();
  Tensor log_sums = Tensor::zeros({0, 3}, DType::kF32, Device::kCuda);
  distillation_statistics(logits, logits, targets, 0, 8, 2, statistics);
  distillation_combine(statistics.reshaped({1, 0, kDistillationStatistics}), targets, 2, losses,
                       divergences, log_sums);
  distillation_backward(logits, targets, log_sums, 0, 8, 2, 0.5, 1.0, logits);
}

}  // namespace
}  // namespace polyhead::ops
