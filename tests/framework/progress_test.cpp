#include "framework/run/progress.h"

#include <gtest/gtest.h>

namespace polyhead {
namespace {

TEST(Progress, SpeedAndTimeLeftLeaveOutTheFirstSteps) {
  Progress progress(1, 10, 100.0);
  progress.begin_step(100);
  progress.end_step(150);  // the slow first step
  EXPECT_DOUBLE_EQ(progress.mean_step_seconds(), 50);
  EXPECT_DOUBLE_EQ(progress.remaining_seconds(), 9 * 50);
  progress.begin_step(150);
  progress.end_step(154);
  progress.begin_step(154);
  progress.end_step(156);
  EXPECT_DOUBLE_EQ(progress.mean_step_seconds(), 2);
  progress.begin_step(160);  // four seconds went into an evaluation
  progress.end_step(164);
  EXPECT_DOUBLE_EQ(progress.step_seconds(), 4);
  EXPECT_DOUBLE_EQ(progress.mean_step_seconds(), 3);
  EXPECT_DOUBLE_EQ(progress.elapsed_seconds(), 64);
  EXPECT_DOUBLE_EQ(progress.remaining_seconds(), 6 * (164.0 - 154.0) / 2);
}

TEST(Progress, TheMeanForgetsWhatIsOlderThanItsWindow) {
  Progress progress(5, 1000, 0);
  double now = 0;
  for (int step = 0; step < 60; ++step) {
    progress.begin_step(now);
    now += step < 40 ? 3 : 1;
    progress.end_step(now);
  }
  EXPECT_DOUBLE_EQ(progress.mean_step_seconds(), 1);
}

}  // namespace
}  // namespace polyhead
