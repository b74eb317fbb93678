#include "framework/run/signals.h"

#include <gtest/gtest.h>

#include "tests/support/ranks.h"

namespace polyhead {
namespace {

TEST(Signals, AreToldOnceWhateverTheirNumber) {
  const std::unique_ptr<Communicator> solo = make_solo_communicator();
  Signals signals;
  EXPECT_EQ(signals.poll(*solo), SignalRequest::kNone);
  std::raise(SIGUSR1);
  std::raise(SIGUSR1);
  EXPECT_EQ(signals.poll(*solo), SignalRequest::kSave);
  EXPECT_EQ(signals.poll(*solo), SignalRequest::kNone);
}

TEST(Signals, StopWinsOverSave) {
  const std::unique_ptr<Communicator> solo = make_solo_communicator();
  for (int stop : {SIGUSR2, SIGTERM, SIGINT}) {
    Signals signals;
    std::raise(stop);
    std::raise(SIGUSR1);
    EXPECT_EQ(signals.poll(*solo), SignalRequest::kStop) << stop;
  }
}

// One rank alone was told; under mpirun, where each rank is a process, all of them learn of it.
TEST(Signals, OfOneRankReachAll) {
  Signals signals;
  const Communicator& world = testing::world();
  if (world.rank() == world.size() - 1) std::raise(SIGUSR2);
  EXPECT_EQ(signals.poll(world), SignalRequest::kStop);
  EXPECT_EQ(signals.poll(world), SignalRequest::kNone);
}

TEST(SignalsDeathTest, ASecondInterruptEndsTheProcess) {
  if (testing::world().size() > 1) GTEST_SKIP() << "forks";
  EXPECT_EXIT(
      {
        Signals signals;
        std::raise(SIGINT);
        std::raise(SIGINT);
      },
      ::testing::KilledBySignal(SIGINT), "");
}

TEST(Signals, AreLeftAsTheyWere) {
  struct sigaction before = {}, after = {};
  sigaction(SIGTERM, nullptr, &before);
  { const Signals signals; }
  sigaction(SIGTERM, nullptr, &after);
  EXPECT_EQ(before.sa_handler, after.sa_handler);
}

}  // namespace
}  // namespace polyhead
