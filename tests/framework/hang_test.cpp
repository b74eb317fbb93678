#include "framework/comm/hang.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace polyhead {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::vector<std::string> kProcesses = {"process 10 on a", "process 11 on a",
                                             "process 12 on b"};

WaitState waiting(int rank, Collective collective, std::int64_t sequence, int waits_for) {
  return {.rank = rank,
          .waits = true,
          .finished = false,
          .alarmed = true,
          .collective = collective,
          .sequence = sequence,
          .bytes = 4096,
          .group_size = 3,
          .waits_for = waits_for,
          .seconds = 60};
}

TEST(Hang, NamesTheSilentRankAndWhatItHoldsUp) {
  const std::string message = describe_hang(
      {waiting(0, Collective::kAllReduce, 212, 1), waiting(2, Collective::kAllReduce, 212, 1)},
      kProcesses);
  EXPECT_THAT(message, HasSubstr("communication stopped for 60 s"));
  EXPECT_THAT(message, HasSubstr("rank 1 (process 11 on a) stopped answering"));
  EXPECT_THAT(message, HasSubstr("ranks 0 and 2 wait for rank 1 in all_reduce 212 (4096 bytes, "
                                 "3 ranks)"));
  EXPECT_THAT(message, HasSubstr("communication_timeout"));
}

TEST(Hang, NamesBothCollectivesOfADeadlock) {
  const std::string message = describe_hang(
      {waiting(0, Collective::kAllGather, 7, 1), waiting(1, Collective::kBarrier, 9, 2),
       waiting(2, Collective::kBarrier, 9, 0)},
      kProcesses);
  EXPECT_THAT(message, HasSubstr("rank 0 waits for rank 1 in all_gather 7"));
  EXPECT_THAT(message, HasSubstr("rank 1 waits for rank 2 in barrier 9"));
  EXPECT_THAT(message, Not(HasSubstr("stopped answering")));
}

TEST(Hang, NamesARankThatFinishedEarly) {
  WaitState finished;
  finished.rank = 2;
  finished.finished = true;
  const std::string message = describe_hang(
      {waiting(0, Collective::kSplit, 1, 2), waiting(1, Collective::kSplit, 1, 2), finished},
      kProcesses);
  EXPECT_THAT(message, HasSubstr("rank 2 finished without the others"));
  EXPECT_THAT(message, HasSubstr("ranks 0 and 1 wait for rank 2 in split 1"));
}

TEST(Hang, NamesTheCollectiveThatADeviceWaitsIn) {
  const std::string message =
      describe_hang({waiting(0, Collective::kAllReduce, 5, kOtherDevices)}, kProcesses);
  EXPECT_THAT(message, HasSubstr("rank 0 waits for the devices of other ranks, last in "
                                 "all_reduce 5 (4096 bytes, 3 ranks)"));
}

TEST(DeviceWait, IsWatchedOnceForWhatWasEnqueued) {
  std::vector<WaitState> begun;
  int checks = 0, ends = 0;
  set_device_watch({.begin = [&](const WaitState& last) { begun.push_back(last); },
                    .check = [&] { ++checks; },
                    .end = [&] { ++ends; }});
  const auto watched = [] {
    const DeviceWait wait;
    wait.check();
    return wait.is_for_others();
  };
  EXPECT_FALSE(watched());
  enqueued_on_device(Collective::kAllReduce, 64, 2);
  enqueued_on_device(Collective::kAllGather, 32, 4);
  EXPECT_TRUE(watched());
  EXPECT_FALSE(watched());
  set_device_watch({});
  enqueued_on_device(Collective::kAllReduce, 64, 2);
  EXPECT_FALSE(watched());

  ASSERT_EQ(begun.size(), 1U);
  EXPECT_EQ(describe(begun.front()), "all_gather 2 (32 bytes, 4 ranks)");
  EXPECT_EQ(checks, 1);
  EXPECT_EQ(ends, 1);
}

}  // namespace
}  // namespace polyhead
