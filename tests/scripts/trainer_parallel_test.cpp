// The same training on any number of ranks.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using testing::TrainingRun;

struct Layout {
  int tensor_ranks;
  int data_ranks;
  bool sequence_parallel = false;

  std::string name() const {
    return fmt::format("tp {} dp {}{}", tensor_ranks, data_ranks,
                       sequence_parallel ? " sequence parallel" : "");
  }
};

struct Curve {
  std::vector<double> losses, norms;
  double validation = 0;
};

Curve train(TrainingRun& run, const Layout& layout) {
  run.config.parallel.sequence_parallel = layout.sequence_parallel;
  Curve curve;
  run.run(layout.tensor_ranks, layout.data_ranks, [&](Trainer& trainer, const Communicator& world) {
    trainer.initialize();
    Curve mine;
    for (int step = 0; step < 20; ++step) {
      const StepResult result = trainer.step();
      mine.losses.push_back(result.loss);
      mine.norms.push_back(result.gradient_norm);
    }
    mine.validation = trainer.evaluate().loss;
    trainer.check_replicas();
    if (world.rank() == 0) curve = mine;
  });
  return curve;
}

void expect_close(const Curve& got, const Curve& want, const std::string& where) {
  for (std::size_t step = 0; step < want.losses.size(); ++step) {
    ASSERT_NEAR(got.losses[step] / want.losses[step], 1, 1e-5) << where << ", step " << step;
    ASSERT_NEAR(got.norms[step] / want.norms[step], 1, 1e-4) << where << ", step " << step;
  }
  EXPECT_NEAR(got.validation / want.validation, 1, 1e-5) << where;
}

class EveryVariant : public ::testing::TestWithParam<testing::Variant> {};

TEST_P(EveryVariant, LearnsTheSameOnAnyLayout) {
  TrainingRun run(GetParam().config);
  const Curve alone = train(run, {1, 1});
  EXPECT_LT(alone.losses.back(), alone.losses.front() - 0.05) << "nothing was learnt";
  for (const Layout& layout : {Layout{2, 1}, Layout{4, 1}, Layout{1, 2}, Layout{2, 2},
                               Layout{2, 1, true}, Layout{4, 1, true}, Layout{2, 2, true}}) {
    expect_close(train(run, layout), alone, layout.name());
  }
}

INSTANTIATE_TEST_SUITE_P(Attention, EveryVariant,
                         ::testing::ValuesIn(testing::attention_variants()),
                         [](const auto& test) { return test.param.name; });

TEST(Accumulation, EqualsOneBigBatch) {
  TrainingRun run;
  run.config.training.micro_batch_size = 8;
  const Curve whole = train(run, {1, 1});
  for (std::int64_t micro_batch : {4, 2, 1}) {
    run.config.training.micro_batch_size = micro_batch;
    expect_close(train(run, {1, 1}), whole, fmt::format("micro-batches of {}", micro_batch));
  }
}

TEST(Accumulation, WeighsTokensAlikeWhereMicroBatchesHaveUnequalTargets) {
  TrainingRun run;
  run.config.data.eod_mask_loss = true;  // token 0 is the end of documents: no target behind it
  run.config.training.micro_batch_size = 8;
  const Curve whole = train(run, {1, 1});
  run.config.training.micro_batch_size = 1;
  expect_close(train(run, {1, 1}), whole, "micro-batches of 1");
  expect_close(train(run, {1, 4}), whole, "dp 4");
}

TEST(Recompute, IsBitwiseTheSame) {
  TrainingRun run;
  const Curve kept = train(run, {2, 1});
  for (Recompute recompute : {Recompute::kSelective, Recompute::kFull}) {
    run.config.training.recompute = recompute;
    EXPECT_EQ(train(run, {2, 1}).losses, kept.losses);
  }
}

}  // namespace
}  // namespace polyhead
