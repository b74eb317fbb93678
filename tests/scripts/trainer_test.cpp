#include "scripts/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "tests/support/compare.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TrainingRun;

// Weights and moments of a rank, to see whether a step left them alone.
std::vector<Tensor> snapshot(Trainer& trainer) {
  return {trainer.store().values().clone(), trainer.optimizer().first_moment().clone(),
          trainer.optimizer().second_moment().clone()};
}

TEST(NonFinite, OnOneRankSkipsTheUpdateOnAll) {
  const TrainingRun run;
  run.run(2, 2, [](Trainer& trainer, const Communicator& world) {
    trainer.initialize();
    trainer.step();
    Parameter& norm = *trainer.store().segments().back().parameter;
    const Tensor kept = norm.value.clone();
    if (world.rank() == 2) {
      norm.value.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
    }
    const std::vector<Tensor> before = snapshot(trainer);
    const StepResult result = trainer.step();
    EXPECT_THAT(result.problem, HasSubstr("rank 2: loss nan, non-finite gradient of model."));
    EXPECT_EQ(trainer.state().step, 2);
    EXPECT_EQ(trainer.optimizer().updates(), 1);
    const std::vector<Tensor> after = snapshot(trainer);
    for (std::size_t i = 0; i < before.size(); ++i) {
      EXPECT_TRUE(testing::bitwise_equal(after[i], before[i]) || world.rank() == 2);
    }
    norm.value.copy_from(kept);
    EXPECT_EQ(trainer.step().problem, "");
    EXPECT_EQ(trainer.optimizer().updates(), 2);
    trainer.check_replicas();
  });
}

TEST(NonFinite, WeightsAreNotSaved) {
  const TrainingRun run;
  const std::string message = error_of([&] {
    run.run(2, 1, [](Trainer& trainer, const Communicator& world) {
      trainer.initialize();
      trainer.save();
      trainer.step();
      if (world.rank() == 1) {
        trainer.store().segments().front().parameter->value.data<float>()[0] =
            std::numeric_limits<float>::infinity();
      }
      trainer.save();
    });
  });
  EXPECT_THAT(message, HasSubstr("step 1: model.embed_tokens.weight holds a number that is not"));
  EXPECT_TRUE(std::filesystem::exists(run.checkpoint(0)));
  EXPECT_FALSE(std::filesystem::exists(run.checkpoint(1)));
}

TEST(Replicas, OneBitOfDriftIsReported) {
  const TrainingRun run;
  const std::string message = error_of([&] {
    run.run(2, 2, [](Trainer& trainer, const Communicator& world) {
      trainer.initialize();
      trainer.check_replicas();
      if (world.rank() == 3) {
        float& element = trainer.store().segments().front().parameter->value.data<float>()[4];
        element = std::nextafter(element, 1.0f);
      }
      trainer.save();
    });
  });
  EXPECT_THAT(message, HasSubstr("model.embed_tokens.weight"));
  EXPECT_FALSE(std::filesystem::exists(run.checkpoint(0)));
}

TEST(Evaluation, ScoresEveryTokenOnceOnAnyLayout) {
  TrainingRun run;
  EvaluationResult alone;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    alone = trainer.evaluate();
  });
  EXPECT_EQ(alone.tokens, (7 * 40 - 1) / 6 * 6);  // 46 samples, no multiple of the batches
  run.config.training.micro_batch_size = 4;
  run.run(2, 2, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    const EvaluationResult result = trainer.evaluate();
    EXPECT_EQ(result.tokens, alone.tokens);
    EXPECT_NEAR(result.loss / alone.loss, 1, 1e-6);
  });
}

TEST(Checkpoints, OldOnesGo) {
  TrainingRun run;
  run.config.checkpoint.keep_last = 2;
  run.config.checkpoint.keep_every = 4;
  run.config.checkpoint.save_interval = 2;
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    for (int step = 1; step <= 10; ++step) {
      trainer.step();
      if (step % 2 == 0) trainer.save();
    }
  });
  EXPECT_EQ(checkpoint_steps(run.config.checkpoint.folder), (std::vector<std::int64_t>{4, 8, 10}));
}

TEST(Datasets, MissingOnesAreOneError) {
  TrainingRun run;
  run.config.data.train = {{(run.folder() / "nowhere").string(), 1.0}};
  EXPECT_THAT(error_of([&] { run.run(2, 1, [](Trainer&, const Communicator&) {}); }),
              HasSubstr("nowhere"));
}

}  // namespace
}  // namespace polyhead
