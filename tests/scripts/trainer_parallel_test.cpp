// The same training on any number of ranks, threads or mpirun's. And that the comparison can fail.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/forgetful_communicator.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using testing::TrainingRun;

constexpr int kSteps = 20;
constexpr double kTolerance = 1e-5;  // relative; measured: losses 1e-7, gradient norms 5e-7

struct Layout {
  int tensor_ranks;
  int data_ranks;
  bool sequence_parallel = false;
};

struct Curve {
  std::vector<double> losses, norms;
  double validation = 0;
};

Curve curve_of(Trainer& trainer) {
  trainer.initialize();
  Curve curve;
  for (int step = 0; step < kSteps; ++step) {
    const StepResult result = trainer.step();
    curve.losses.push_back(result.loss);
    curve.norms.push_back(result.gradient_norm);
    trainer.check_replicas();
  }
  curve.validation = trainer.evaluate().loss;
  return curve;
}

Curve train_alone(const TrainingRun& run) {
  Curve curve;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) { curve = curve_of(trainer); });
  return curve;
}

void expect_close(const Curve& got, const Curve& want) {
  for (std::size_t step = 0; step < want.losses.size(); ++step) {
    ASSERT_NEAR(got.losses[step] / want.losses[step], 1, kTolerance) << "step " << step;
    ASSERT_NEAR(got.norms[step] / want.norms[step], 1, kTolerance) << "step " << step;
  }
  EXPECT_NEAR(got.validation / want.validation, 1, kTolerance);
}

class EveryVariant : public ::testing::TestWithParam<std::tuple<testing::Variant, Layout>> {};

TEST_P(EveryVariant, LearnsTheSameOnAnyLayout) {
  const Layout layout = std::get<Layout>(GetParam());
  TrainingRun run(std::get<testing::Variant>(GetParam()).config);
  const Curve alone = train_alone(run);
  EXPECT_LT(alone.losses.back(), alone.losses.front() - 0.05) << "nothing was learnt";
  run.config.parallel.sequence_parallel = layout.sequence_parallel;
  run.run(layout.tensor_ranks, layout.data_ranks,
          [&](Trainer& trainer, const Communicator&) { expect_close(curve_of(trainer), alone); });
}

std::string test_name(const ::testing::TestParamInfo<EveryVariant::ParamType>& test) {
  const auto& [variant, layout] = test.param;
  return fmt::format("{}_tp{}_dp{}{}", variant.name, layout.tensor_ranks, layout.data_ranks,
                     layout.sequence_parallel ? "_sequence_parallel" : "");
}

INSTANTIATE_TEST_SUITE_P(
    Attention, EveryVariant,
    ::testing::Combine(::testing::ValuesIn(testing::attention_variants()),
                       ::testing::Values(Layout{2, 1}, Layout{4, 1}, Layout{1, 2}, Layout{2, 2},
                                         Layout{2, 1, true}, Layout{4, 1, true},
                                         Layout{2, 2, true})),
    test_name);

std::int64_t all_reduces_of_step(Trainer& trainer, const Communicator& world) {
  const std::int64_t before = world.counters()[Collective::kAllReduce].calls;
  trainer.step();
  return world.counters()[Collective::kAllReduce].calls - before;
}

// The micro-batches but the last must not be summed.
TEST(GradientBuckets, LeaveTheCurveAsItIs) {
  TrainingRun run;
  run.config.training.micro_batch_size = 1;
  std::vector<std::int64_t> in_one_bucket(2);  // by rank
  run.run(1, 2, [&](Trainer& trainer, const Communicator& world) {
    trainer.initialize();
    in_one_bucket[static_cast<std::size_t>(world.rank())] = all_reduces_of_step(trainer, world);
  });
  run.config.model.ffn_hidden_size = 72004;  // 16 MiB a layer: a bucket each, and what remains
  const Curve alone = train_alone(run);
  run.run(1, 2, [&](Trainer& trainer, const Communicator& world) {
    expect_close(curve_of(trainer), alone);
    EXPECT_EQ(all_reduces_of_step(trainer, world),
              in_one_bucket[static_cast<std::size_t>(world.rank())] + 2);
  });
}

// Each rank then learns from its own samples: the curves part, and the copies of the weights.
TEST(TrainingCanFail, WhenGradientsAreNotSummed) {
  const TrainingRun run;
  const Curve alone = train_alone(run);
  testing::for_each_group({2}, [&](const Communicator& group) {
    // Counts and losses, the short sums, are right.
    const testing::ForgetfulCommunicator forgetful(group, {.longer_than = 8});
    omp_set_num_threads(1);
    Trainer trainer(run.config, forgetful);
    trainer.initialize();
    const std::vector<double> losses = testing::train_for(trainer, kSteps);
    EXPECT_NEAR(losses.front() / alone.losses.front(), 1, kTolerance);
    EXPECT_GT(std::abs(losses.back() / alone.losses.back() - 1), 100 * kTolerance);
    EXPECT_NE(testing::error_of([&] { trainer.check_replicas(); }), "no error");
  });
}

TEST(Communication, IsCountedInEveryStep) {
  const TrainingRun run;
  run.run(1, 2, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    const CommunicationCount first = trainer.step().communication;
    const CommunicationCount second = trainer.step().communication;
    // An all-reduce among two sends as much as it sums: all gradients, and a few numbers.
    const std::int64_t gradients = 4 * trainer.store().size();
    EXPECT_GE(first.bytes, gradients);
    EXPECT_LT(first.bytes, gradients + 1000);
    EXPECT_EQ(second.bytes, first.bytes);
    EXPECT_EQ(second.calls, first.calls);
  });
}

TEST(Accumulation, EqualsOneBigBatch) {
  TrainingRun run;
  run.config.training.micro_batch_size = 8;
  const Curve whole = train_alone(run);
  for (std::int64_t micro_batch : {4, 2, 1}) {
    SCOPED_TRACE(fmt::format("micro-batches of {}", micro_batch));
    run.config.training.micro_batch_size = micro_batch;
    expect_close(train_alone(run), whole);
  }
}

TEST(Accumulation, WeighsTokensAlikeWhereMicroBatchesHaveUnequalTargets) {
  TrainingRun run;
  run.config.data.eod_mask_loss = true;  // token 0 is the end of documents: no target behind it
  run.config.training.micro_batch_size = 8;
  const Curve whole = train_alone(run);
  run.config.training.micro_batch_size = 1;
  expect_close(train_alone(run), whole);
}

TEST(Accumulation, WeighsTokensAlikeWhereRanksHaveUnequalTargets) {
  TrainingRun run;
  run.config.data.eod_mask_loss = true;
  run.config.training.micro_batch_size = 8;
  const Curve whole = train_alone(run);
  run.config.training.micro_batch_size = 1;
  run.run(1, 4,
          [&](Trainer& trainer, const Communicator&) { expect_close(curve_of(trainer), whole); });
}

TEST(Recompute, IsBitwiseTheSame) {
  TrainingRun run;
  std::vector<Curve> kept(2);  // by rank
  run.run(2, 1, [&](Trainer& trainer, const Communicator& world) {
    kept[static_cast<std::size_t>(world.rank())] = curve_of(trainer);
  });
  for (Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
    run.config.training.recompute = recompute;
    run.run(2, 1, [&](Trainer& trainer, const Communicator& world) {
      EXPECT_EQ(curve_of(trainer).losses, kept[static_cast<std::size_t>(world.rank())].losses);
    });
  }
}

}  // namespace
}  // namespace polyhead
