#include "optim/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/compare.h"
#include "tests/support/ranks.h"
#include "tests/support/sharded_toy.h"

namespace polyhead {
namespace {

// AdamW on one number, from the paper's algorithm.
struct Reference {
  double value, m = 0, v = 0;
  int t = 0;

  void step(double g, double rate, double decay, const ops::AdamwOptions& o) {
    ++t;
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    const double corrected_m = m / (1 - std::pow(o.beta1, t));
    const double corrected_v = v / (1 - std::pow(o.beta2, t));
    value -= rate * (corrected_m / (std::sqrt(corrected_v) + o.epsilon) + decay * value);
  }
};

constexpr std::uint64_t kSeed = 1234;

Tensor scale(double factor) {
  Tensor scale = Tensor::empty({1}, DType::kF64);
  scale.data<double>()[0] = factor;
  return scale;
}

TEST(AdamW, DecaysOnlyWhatDecays) {
  Parameter matrix = replicated_parameter("matrix", {3, 7}, 0, {});
  Parameter norm = replicated_parameter("norm", {5}, 0, {});
  Parameter last = replicated_parameter("last", {2, 3}, 0, {});
  matrix.decays = last.decays = true;
  ParameterStore store({&matrix, &norm, &last}, DType::kF64, Device::kCpu);
  store.initialize(3);
  const ops::AdamwOptions options{.beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.5};
  AdamW optimizer(store, options);

  std::vector<Reference> references;
  const std::vector<Parameter*> parameters = {&matrix, &norm, &last};
  for (Parameter* parameter : parameters) {
    for (std::int64_t i = 0; i < parameter->value.numel(); ++i) {
      references.push_back({parameter->value.data<double>()[i]});
    }
  }
  for (int step = 1; step <= 3; ++step) {
    std::size_t next = 0;
    for (Parameter* parameter : parameters) {
      parameter->grad.copy_from(testing::random_tensor(
          parameter->global_shape, DType::kF64, fmt::format("{}.{}", parameter->name, step)));
      for (std::int64_t i = 0; i < parameter->grad.numel(); ++i) {
        references[next++].step(0.25 * parameter->grad.data<double>()[i], 0.01 * step,
                                parameter->decays ? 0.5 : 0, options);
      }
    }
    optimizer.step(0.01 * step, scale(0.25));
  }
  EXPECT_EQ(optimizer.updates(), 3);
  std::size_t next = 0;
  for (Parameter* parameter : parameters) {
    for (std::int64_t i = 0; i < parameter->value.numel(); ++i) {
      EXPECT_NEAR(parameter->value.data<double>()[i], references[next++].value, 1e-13)
          << parameter->name;
    }
  }
}

TEST(AdamW, GoesOnBitwiseFromItsState) {
  const auto train = [](int steps, AdamW& optimizer, Parameter& parameter, int first) {
    for (int step = first; step < first + steps; ++step) {
      parameter.grad.copy_from(
          testing::random_tensor(parameter.global_shape, DType::kF32, fmt::format("g{}", step)));
      optimizer.step(1e-2, scale(1.0));
    }
  };
  for (const DType moments : {DType::kF32, DType::kBf16}) {
    SCOPED_TRACE(name_of(moments));
    Parameter whole = replicated_parameter("w", {11, 3}, 0, {}), part = whole, rest = whole;
    ParameterStore whole_store({&whole}, DType::kF32, Device::kCpu);
    ParameterStore part_store({&part}, DType::kF32, Device::kCpu);
    ParameterStore rest_store({&rest}, DType::kF32, Device::kCpu);
    whole_store.initialize(1);
    part_store.initialize(1);
    AdamW whole_run(whole_store, {}, moments, kSeed), part_run(part_store, {}, moments, kSeed),
        rest_run(rest_store, {}, moments, kSeed);
    train(5, whole_run, whole, 0);
    train(2, part_run, part, 0);
    rest_store.values().copy_from(part_store.values());
    rest_run.first_moment().copy_from(part_run.first_moment());
    rest_run.second_moment().copy_from(part_run.second_moment());
    rest_run.set_updates(part_run.updates());
    train(3, rest_run, rest, 2);
    EXPECT_TRUE(testing::bitwise_equal(rest.value, whole.value));
    EXPECT_TRUE(testing::bitwise_equal(rest_run.second_moment(), whole_run.second_moment()));
  }
}

// Gradients depend on the place in the whole parameter alone.
void take_steps(ParameterStore& store, AdamW& optimizer, int steps) {
  for (int step = 0; step < steps; ++step) {
    for (const Segment& segment : store.segments()) {
      segment.parameter->grad.copy_from(
          initial_value(*segment.parameter, 100 + static_cast<std::uint64_t>(step), DType::kF32));
    }
    optimizer.step(1e-2, scale(0.7));
  }
}

// What a tensor-parallel rank holds of the whole parameter's tensor.
Tensor slice_of(const Tensor& whole, const Parameter& parameter) {
  if (!parameter.is_sharded()) return whole;
  const std::int64_t begin = parameter.shard_begin, end = parameter.shard_end;
  const bool rows = parameter.shard_dim < parameter.global_shape.rank() - 1;
  return rows || parameter.global_shape.rank() == 1 ? whole.row_slice(begin, end)
                                                    : whole.column_slice(begin, end);
}

TEST(Bf16Moments, AreTheSameOnAnyNumberOfTensorParallelRanks) {
  testing::ShardedToy whole(0, 1);
  whole.store().initialize(5);
  AdamW whole_run(whole.store(), {}, DType::kBf16, kSeed);
  take_steps(whole.store(), whole_run, 4);
  for (const int ranks : {2, 4}) {
    for (int rank = 0; rank < ranks; ++rank) {
      testing::ShardedToy part(rank, ranks);
      part.store().initialize(5);
      AdamW run(part.store(), {}, DType::kBf16, kSeed);
      take_steps(part.store(), run, 4);
      for (std::size_t i = 0; i < part.store().segments().size(); ++i) {
        const Segment &segment = part.store().segments()[i], &its = whole.store().segments()[i];
        const Parameter& parameter = *segment.parameter;
        SCOPED_TRACE(fmt::format("{}, rank {} of {}", parameter.name, rank, ranks));
        const auto expect_slice = [&](const Tensor& mine, const Tensor& all) {
          EXPECT_TRUE(testing::bitwise_equal(
              valid_part(parameter, part.store().view(mine, segment)),
              slice_of(valid_part(*its.parameter, whole.store().view(all, its)), parameter)));
        };
        expect_slice(run.first_moment(), whole_run.first_moment());
        expect_slice(run.second_moment(), whole_run.second_moment());
        expect_slice(part.store().values(), whole.store().values());
      }
    }
  }
}

// Borders of shards lie inside a parameter, and not at rows.
TEST(Bf16Moments, AreTheSameOnAnyNumberOfDataParallelRanks) {
  testing::for_each_group({2, 3, 4}, [](const Communicator& group) {
    Parameter first = replicated_parameter("first", {7, 41}, 0, {});
    Parameter second = replicated_parameter("second", {5}, 0, {});
    Parameter alone_first = first, alone_second = second;
    first.decays = alone_first.decays = true;
    ParameterStore sharded({&first, &second}, DType::kF32, Device::kCpu, &group);
    ParameterStore whole({&alone_first, &alone_second}, DType::kF32, Device::kCpu);
    sharded.initialize(5);
    whole.initialize(5);
    const ops::AdamwOptions options{.weight_decay = 0.1};
    AdamW run(sharded, options, DType::kBf16, kSeed);
    AdamW whole_run(whole, options, DType::kBf16, kSeed);
    take_steps(sharded, run, 4);
    take_steps(whole, whole_run, 4);
    EXPECT_EQ(run.first_moment().numel() * group.size(), sharded.size());
    for (std::size_t i = 0; i < whole.segments().size(); ++i) {
      const Segment &segment = sharded.segments()[i], &its = whole.segments()[i];
      const auto expect_same = [&](const Tensor& mine, const Tensor& all) {
        EXPECT_TRUE(
            testing::bitwise_equal(sharded.whole_segment(mine, segment), whole.view(all, its)));
      };
      expect_same(run.first_moment(), whole_run.first_moment());
      expect_same(run.second_moment(), whole_run.second_moment());
      expect_same(sharded.values(), whole.values());
    }
  });
}

TEST(Bf16Moments, FollowTheirSeed) {
  const auto moment_of = [](std::uint64_t seed) {
    testing::ShardedToy toy(0, 1);
    AdamW run(toy.store(), {}, DType::kBf16, seed);
    take_steps(toy.store(), run, 1);
    return run.first_moment();
  };
  EXPECT_TRUE(testing::bitwise_equal(moment_of(1), moment_of(1)));
  EXPECT_FALSE(testing::bitwise_equal(moment_of(1), moment_of(2)));
}

}  // namespace
}  // namespace polyhead
