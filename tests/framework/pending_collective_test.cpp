#include "framework/comm/pending_collective.h"

#include <gtest/gtest.h>

#include <stdexcept>

#include "framework/buffer.h"
#include "framework/comm/communicator.h"
#include "tests/support/compare.h"
#include "tests/support/ranks.h"

namespace polyhead {
namespace {

using testing::bitwise_equal;
using testing::for_each_group;

// A collective whose joins are counted.
PendingCollective pending(int& joins, Tensor tensor = {}) {
  return {[&joins] { ++joins; }, {std::move(tensor)}};
}

TEST(PendingCollective, IsJoinedOnceByWait) {
  int joins = 0;
  {
    PendingCollective one = pending(joins);
    EXPECT_EQ(joins, 0);
    one.wait();
    EXPECT_EQ(joins, 1);
    one.wait();
  }
  EXPECT_EQ(joins, 1);
  PendingCollective().wait();
}

TEST(PendingCollective, IsJoinedWhereItIsDropped) {
  int joins = 0;
  { const PendingCollective one = pending(joins); }
  EXPECT_EQ(joins, 1);
  const auto throw_meanwhile = [&] {
    const PendingCollective one = pending(joins);
    throw std::runtime_error("meanwhile");
  };
  EXPECT_THROW(throw_meanwhile(), std::runtime_error);
  EXPECT_EQ(joins, 2);
}

TEST(PendingCollective, MovesTheJoin) {
  int joins = 0, others = 0;
  PendingCollective target;
  {
    PendingCollective source = pending(joins);
    target = std::move(source);
  }
  EXPECT_EQ(joins, 0);
  target = pending(others);  // drops the one before
  EXPECT_EQ(joins, 1);
  PendingCollective last = std::move(target);
  target.wait();
  EXPECT_EQ(others, 0);
  last.wait();
  EXPECT_EQ(others, 1);
}

TEST(PendingCollective, KeepsTheTensorsUntilTheJoin) {
  const auto in_use = [] { return memory_statistics(Device::kCpu).in_use; };
  const std::size_t before = in_use();
  std::size_t at_join = 0;
  PendingCollective one([&] { at_join = in_use(); }, {Tensor::empty({1000}, DType::kF32)});
  const std::size_t during = in_use();
  EXPECT_GT(during, before);
  one.wait();
  EXPECT_EQ(at_join, during);
  EXPECT_EQ(in_use(), before);
}

TEST(PendingCollective, DropsAFailureOfTheJoinWhereNobodyCanCatchIt) {
  const auto failing = [] {
    return PendingCollective([] { throw std::runtime_error("device"); }, {});
  };
  { const PendingCollective one = failing(); }
  EXPECT_THROW(failing().wait(), std::runtime_error);
}

// Three at once, ended in another order, and one that is dropped.
TEST(StartedCollectives, GiveTheBitsOfBlockingOnes) {
  for_each_group({1, 2, 3, 4, 5}, [](const Communicator& group) {
    for (const std::int64_t rows : {0, 1, 7, 2049}) {
      const auto random = [&](std::int64_t count) {
        return testing::random_tensor({count, 5}, DType::kF32,
                                      fmt::format("rank {}", group.rank()));
      };
      const Tensor own = random(rows), own_whole = random(rows * group.size());
      Tensor sum = own.clone(), dropped = own.clone(), part = Tensor::empty_like(own);
      Tensor whole = Tensor::empty_like(own_whole);
      PendingCollective summing = group.start_all_reduce(sum);
      PendingCollective gathering = group.start_all_gather(own, whole);
      PendingCollective scattering = group.start_reduce_scatter(own_whole, part);
      { const PendingCollective ends = group.start_all_reduce(dropped); }
      scattering.wait();
      summing.wait();
      gathering.wait();

      Tensor blocking_sum = own.clone(), blocking_part = Tensor::empty_like(own);
      Tensor blocking_whole = Tensor::empty_like(own_whole);
      group.all_reduce(blocking_sum);
      group.all_gather(own, blocking_whole);
      group.reduce_scatter(own_whole, blocking_part);
      EXPECT_TRUE(bitwise_equal(sum, blocking_sum));
      EXPECT_TRUE(bitwise_equal(dropped, blocking_sum));
      EXPECT_TRUE(bitwise_equal(whole, blocking_whole));
      EXPECT_TRUE(bitwise_equal(part, blocking_part));
    }
  });
}

TEST(StartedCollectives, LeaveATensorForTheNextOneAndForUse) {
  for_each_group({1, 2, 3, 4, 5}, [](const Communicator& group) {
    Tensor x = Tensor::zeros({7}, DType::kI32);
    x.data<std::int32_t>()[6] = 1;
    PendingCollective first = group.start_all_reduce(x);
    PendingCollective second = group.start_all_reduce(x);
    second.wait();
    first.wait();
    EXPECT_EQ(x.data<std::int32_t>()[6], group.size() * group.size());
    x.data<std::int32_t>()[6] = group.rank();
    group.start_all_reduce(x, Reduction::kMax).wait();
    EXPECT_EQ(x.data<std::int32_t>()[6], group.size() - 1);
  });
}

}  // namespace
}  // namespace polyhead
