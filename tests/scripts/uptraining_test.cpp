#include "scripts/uptraining.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;

TrainConfig parent() {
  TrainConfig config;
  config.model = testing::small_config();
  config.data.train = {{"text", 1.0}};
  config.data.sequence_length = 16;
  config.optimizer.learning_rate = 1e-3;
  config.optimizer.warmup_steps = 10;
  config.training.train_steps = 601;
  config.training.global_batch_size = 4;
  config.training.micro_batch_size = 2;
  config.checkpoint.folder = "parent";
  return resolved(config);
}

TrainConfig child(const UptrainConfig& uptrain) {
  TrainConfig config = parent();
  config.model = {};
  config.training.train_steps = 0;
  config.optimizer.decay_steps.reset();
  config.checkpoint.folder = "child";
  config.uptrain = uptrain;
  config.uptrain->source = "parent";
  return resolved(config);
}

TEST(Uptraining, TakesModelStepsAndScheduleFromItsSource) {
  TrainConfig source = parent();
  source.model.num_query_groups = 2;
  const TrainConfig config = complete_uptraining(child({}), source, 601);
  EXPECT_EQ(config.model.num_query_groups, 2);
  EXPECT_EQ(config.uptrain->steps, 31);  // 5 % of 601, rounded up
  EXPECT_EQ(config.training.train_steps, 632);
  EXPECT_EQ(first_uptraining_step(config), 601);
  EXPECT_EQ(config.optimizer.decay_steps, 601);
  EXPECT_TRUE(validate(config, 1).empty());
  EXPECT_DOUBLE_EQ(learning_rate(learning_rate_schedule(config), 602), 1e-4);  // the cosine is over
}

TEST(Uptraining, StepsMayBeCountedInTokens) {
  UptrainConfig uptrain;
  uptrain.tokens = 1000;  // 64 a step
  EXPECT_EQ(complete_uptraining(child(uptrain), parent(), 601).uptrain->steps, 16);
  uptrain.tokens.reset();
  uptrain.steps = 7;
  EXPECT_EQ(complete_uptraining(child(uptrain), parent(), 601).training.train_steps, 608);
}

TEST(Uptraining, RefusesAnotherScheduleInEveryMode) {
  for (const UptrainSchedule mode :
       {UptrainSchedule::kContinue, UptrainSchedule::kRewarm, UptrainSchedule::kWsd}) {
    UptrainConfig uptrain;
    uptrain.learning_rate_mode = mode;
    TrainConfig config = child(uptrain);
    EXPECT_EQ(error_of([&] { complete_uptraining(config, parent(), 601); }), "no error");
    config.optimizer.learning_rate = 3e-3;
    config.optimizer.warmup_steps = 700;
    config.optimizer.weight_decay = 0.3;  // no part of the schedule
    EXPECT_THROW(complete_uptraining(config, parent(), 601), ConfigurationError);
    const std::string message = error_of([&] { complete_uptraining(config, parent(), 601); });
    EXPECT_THAT(message, HasSubstr("optimizer.learning_rate: 0.001 became 0.003"));
    EXPECT_THAT(message, HasSubstr("optimizer.warmup_steps: 10 became 700"));
    EXPECT_THAT(message, HasSubstr("write the source's values"));
    EXPECT_THAT(message, Not(HasSubstr("weight_decay")));
  }
}

TEST(Uptraining, NamesOnlyKeysThatTheFileHas) {
  TrainConfig config = child({});
  config.optimizer.schedule = ScheduleShape::kConstant;
  config.optimizer.min_learning_rate.reset();
  const std::string message = error_of([&] { complete_uptraining(config, parent(), 601); });
  EXPECT_THAT(message, HasSubstr("optimizer.schedule: cosine became constant"));
  EXPECT_THAT(message, Not(HasSubstr("decay_steps")));
}

TEST(Uptraining, RewarmHasItsOwnSchedule) {
  UptrainConfig uptrain;
  uptrain.learning_rate_mode = UptrainSchedule::kRewarm;
  uptrain.steps = 100;
  uptrain.rewarm_ratio = 0.5;
  uptrain.rewarm_fraction = 0.1;
  const TrainConfig config = complete_uptraining(child(uptrain), parent(), 601);
  EXPECT_DOUBLE_EQ(learning_rate(learning_rate_schedule(config), 611), 0.5e-3);
  EXPECT_DOUBLE_EQ(learning_rate(learning_rate_schedule(config), 701), 1e-4);
}

TEST(Uptraining, NeverRisesToTheMinimum) {
  UptrainConfig uptrain;
  uptrain.learning_rate_mode = UptrainSchedule::kRewarm;
  uptrain.rewarm_ratio = 0.09;  // the minimum is a tenth of the peak
  const std::vector<RuleViolation> violations = validate(child(uptrain), 1);
  ASSERT_EQ(violations.size(), 1u);
  EXPECT_EQ(violations[0].key, "uptrain.rewarm_ratio");
  EXPECT_THAT(violations[0].message, HasSubstr("less than min_learning_rate (0.0001)"));
  uptrain.rewarm_ratio = 0.1;
  EXPECT_TRUE(validate(child(uptrain), 1).empty());
}

TEST(Uptraining, AResumedRunIsCompletedFromItsOwnCheckpoint) {
  const TrainConfig begun = complete_uptraining(child({}), parent(), 601);
  const TrainConfig resumed = complete_uptraining(child({}), begun, first_uptraining_step(begun));
  EXPECT_EQ(to_yaml(resumed), to_yaml(begun));
}

TEST(Schedule, OfARunFromScratchDecaysToItsEnd) {
  const LearningRateSchedule schedule = learning_rate_schedule(parent());
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 10), 1e-3);
  EXPECT_DOUBLE_EQ(learning_rate(schedule, 601), 1e-4);
}

}  // namespace
}  // namespace polyhead
