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

TEST(DeviceWork, IsUnfinishedUntilTheDeviceHasEnded) {
  EXPECT_FALSE(unfinished_device_work());
  enqueued_on_device(Collective::kAllReduce, 64, 2);
  enqueued_on_device(Collective::kAllGather, 32, 4);
  EXPECT_EQ(collectives_enqueued(), 2);
  ASSERT_TRUE(unfinished_device_work());
  EXPECT_EQ(describe(unfinished_device_work()->last), "all_gather 2 (32 bytes, 4 ranks)");
  EXPECT_EQ(unfinished_device_work()->last.waits_for, kOtherDevices);
  device_has_ended();
  EXPECT_FALSE(unfinished_device_work());

  enqueued_on_device_again();
  ASSERT_TRUE(unfinished_device_work());
  EXPECT_EQ(describe(unfinished_device_work()->last), "all_gather 2 (32 bytes, 4 ranks)");
  device_has_ended();
}

}  // namespace
}  // namespace polyhead
