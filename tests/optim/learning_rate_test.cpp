#include "optim/learning_rate.h"

#include <gtest/gtest.h>

namespace polyhead {
namespace {

// 10 warm-up steps to 1e-3, then down to 1e-4 at step 110.
LearningRateSchedule schedule(ScheduleShape shape) {
  return {.shape = shape,
          .peak = 1e-3,
          .minimum = 1e-4,
          .warmup_steps = 10,
          .decay_steps = 110,
          .wsd_decay_steps = 25};
}

TEST(LearningRate, WarmsUpLinearlyFromTheFirstStep) {
  for (ScheduleShape shape : {ScheduleShape::kConstant, ScheduleShape::kLinear,
                              ScheduleShape::kCosine, ScheduleShape::kWsd}) {
    EXPECT_DOUBLE_EQ(learning_rate(schedule(shape), 1), 1e-4);
    EXPECT_DOUBLE_EQ(learning_rate(schedule(shape), 7), 7e-4);
    EXPECT_DOUBLE_EQ(learning_rate(schedule(shape), 10), 1e-3);
  }
  LearningRateSchedule from_above = schedule(ScheduleShape::kConstant);
  from_above.initial = 5e-4;
  EXPECT_DOUBLE_EQ(learning_rate(from_above, 5), 7.5e-4);
}

TEST(LearningRate, ConstantStaysAtThePeak) {
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kConstant), 11), 1e-3);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kConstant), 5000), 1e-3);
}

TEST(LearningRate, LinearFallsEvenly) {
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kLinear), 35), 7.75e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kLinear), 110), 1e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kLinear), 111), 1e-4);
}

TEST(LearningRate, CosineFallsSlowlyAtBothEnds) {
  EXPECT_NEAR(learning_rate(schedule(ScheduleShape::kCosine), 35), 8.681980515339464e-4, 1e-18);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kCosine), 60), 5.5e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kCosine), 110), 1e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kCosine), 999), 1e-4);
}

TEST(LearningRate, WsdIsStableThenFallsWithTheRoot) {
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kWsd), 85), 1e-3);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kWsd), 86), 1e-3 - 0.2 * 9e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kWsd), 101), 1e-3 - 0.8 * 9e-4);
  EXPECT_DOUBLE_EQ(learning_rate(schedule(ScheduleShape::kWsd), 110), 1e-4);
}

TEST(LearningRate, WithoutWarmupTheFirstStepIsInsideTheShape) {
  LearningRateSchedule linear = schedule(ScheduleShape::kLinear);
  linear.warmup_steps = 0;
  EXPECT_DOUBLE_EQ(learning_rate(linear, 11), 1e-4 + 0.9 * 9e-4);
}

TEST(Uptraining, ContinueGoesOnWithTheParentsSchedule) {
  const LearningRateSchedule parent = schedule(ScheduleShape::kCosine);
  const LearningRateSchedule child = uptrain_schedule(parent, {}, 60, 50);
  EXPECT_EQ(learning_rate(child, 61), learning_rate(parent, 61));
  // A finished cosine stays at its minimum.
  EXPECT_DOUBLE_EQ(learning_rate(uptrain_schedule(parent, {}, 110, 50), 111), 1e-4);
}

TEST(Uptraining, RewarmRisesFromTheParentsRateAndFallsByCosine) {
  const UptrainRate rate{.mode = UptrainSchedule::kRewarm};
  const LearningRateSchedule child =
      uptrain_schedule(schedule(ScheduleShape::kLinear), rate, 110, 200);
  EXPECT_DOUBLE_EQ(learning_rate(child, 111), 1e-4 + 2e-4 / 4);  // 4 of 200 steps warm up
  EXPECT_DOUBLE_EQ(learning_rate(child, 114), 3e-4);
  EXPECT_DOUBLE_EQ(learning_rate(child, 110 + 4 + 98), 2e-4);
  EXPECT_DOUBLE_EQ(learning_rate(child, 310), 1e-4);
}

TEST(Uptraining, WsdDecaysInItsLastFifth) {
  const UptrainRate rate{.mode = UptrainSchedule::kWsd};
  const LearningRateSchedule child =
      uptrain_schedule(schedule(ScheduleShape::kLinear), rate, 110, 200);
  EXPECT_DOUBLE_EQ(learning_rate(child, 270), 3e-4);
  EXPECT_DOUBLE_EQ(learning_rate(child, 280), 2e-4);  // sqrt(10 / 40) = 1 / 2
  EXPECT_DOUBLE_EQ(learning_rate(child, 310), 1e-4);
}

TEST(Uptraining, StepsAreTheFractionRoundedUp) {
  EXPECT_EQ(uptrain_steps(0.05, 600), 30);
  EXPECT_EQ(uptrain_steps(0.07, 100), 7);  // 7.000000000000001 in binary
  EXPECT_EQ(uptrain_steps(0.05, 601), 31);
  EXPECT_EQ(uptrain_steps(0.05, 3), 1);
}

}  // namespace
}  // namespace polyhead
