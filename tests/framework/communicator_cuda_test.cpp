// Collectives of device tensors beside computation, under mpirun: by the shortest way, which is
// from device to device where each rank has its own (NCCL), and through host memory.
#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <thread>

#include "framework/comm/communicator.h"
#include "framework/ops/elementwise.h"
#include "framework/ops/matmul.h"
#include "tests/support/cuda.h"
#include "tests/support/ranks.h"

namespace polyhead {
namespace {

constexpr std::int64_t kRows = 2053, kColumns = 1027;

// Sums of small integers are exact in any order.
Tensor numbers(std::int64_t rows, std::int64_t columns, int offset) {
  Tensor x = Tensor::empty({rows, columns}, DType::kF32);
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    x.data<float>()[i] = static_cast<float>((i * 7 + offset) % 11 - 5);
  }
  return x;
}

Tensor multiple(const Tensor& x, double factor) {
  Tensor y = x.clone();
  for (std::int64_t i = 0; i < y.numel(); ++i) y.data<float>()[i] *= static_cast<float>(factor);
  return y;
}

Tensor sum_of_ranks(std::int64_t rows, std::int64_t columns, int ranks) {
  Tensor sum = numbers(rows, columns, 0);
  for (int rank = 1; rank < ranks; ++rank) ops::add_to(numbers(rows, columns, rank), sum);
  return sum;
}

enum class Way { kShortest, kHostMemory };

class CommunicatorOnCuda : public ::testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    if (testing::world().size() == 1) GTEST_SKIP() << "started without mpirun";
    if (GetParam() == Way::kShortest) world_.connect_devices();
  }
  // Keeps the compute stream busy for some milliseconds.
  void compute() {
    using enum ops::Transpose;
    ops::matmul(matrix_, kNo, matrix_, kNo, ops::Accumulate::kNo, product_);
  }

  const std::unique_ptr<Communicator> all_ = testing::world().split(0);
  const Communicator& world_ = *all_;
  const int rank_ = world_.rank(), ranks_ = world_.size();
  const Tensor matrix_ = Tensor::zeros({4096, 4096}, DType::kF32, Device::kCuda);
  Tensor product_ = Tensor::empty_like(matrix_);
};

// A collective must see what was computed before it, and what is computed behind it its result.
TEST_P(CommunicatorOnCuda, IsOrderedAgainstTheComputation) {
  for (int round = 0; round < 5; ++round) {
    Tensor x = Tensor::zeros({kRows, kColumns}, DType::kF32, Device::kCuda);
    const Tensor own = numbers(kRows, kColumns, rank_).to(Device::kCuda);
    compute();
    ops::add_to(own, x);
    PendingCollective summing = world_.start_all_reduce(x);
    compute();
    summing.wait();
    Tensor twice = Tensor::zeros_like(x);
    ops::add_to(x, twice);
    ops::add_to(x, twice);
    const Tensor want = multiple(sum_of_ranks(kRows, kColumns, ranks_), 2);
    EXPECT_TRUE(testing::bitwise_equal(twice.to(Device::kCpu), want));
  }
}

TEST_P(CommunicatorOnCuda, StartedCollectivesGiveTheBitsOfBlockingOnes) {
  const Tensor own = numbers(kRows, kColumns, rank_).to(Device::kCuda);
  const Tensor own_whole = numbers(kRows * ranks_, kColumns, rank_).to(Device::kCuda);
  Tensor sum = own.clone(), part = Tensor::empty_like(own), whole = Tensor::empty_like(own_whole);
  PendingCollective summing = world_.start_all_reduce(sum);
  PendingCollective gathering = world_.start_all_gather(own, whole);
  PendingCollective scattering = world_.start_reduce_scatter(own_whole, part);
  Tensor sum_of_last = own.clone();
  PendingCollective reducing = world_.start_reduce(sum_of_last, ranks_ - 1);
  compute();
  reducing.wait();
  scattering.wait();
  gathering.wait();
  summing.wait();

  Tensor blocking_sum = own.clone(), blocking_part = Tensor::empty_like(own);
  Tensor blocking_whole = Tensor::empty_like(own_whole);
  world_.all_reduce(blocking_sum);
  world_.all_gather(own, blocking_whole);
  world_.reduce_scatter(own_whole, blocking_part);
  const auto same = [](const Tensor& a, const Tensor& b) {
    return testing::bitwise_equal(a.to(Device::kCpu), b.to(Device::kCpu));
  };
  EXPECT_TRUE(same(sum, blocking_sum));
  EXPECT_TRUE(same(whole, blocking_whole));
  EXPECT_TRUE(same(part, blocking_part));
  EXPECT_TRUE(same(sum, sum_of_ranks(kRows, kColumns, ranks_).to(Device::kCuda)));
  EXPECT_TRUE(same(sum_of_last, rank_ == ranks_ - 1 ? sum : own));
}

TEST_P(CommunicatorOnCuda, ADroppedCollectiveHasEndedForTheComputation) {
  const Tensor want = sum_of_ranks(kRows, kColumns, ranks_);
  Tensor x = numbers(kRows, kColumns, rank_).to(Device::kCuda);
  { const PendingCollective summing = world_.start_all_reduce(x); }
  const Tensor computed = x.clone();
  EXPECT_TRUE(testing::bitwise_equal(computed.to(Device::kCpu), want));
}

// Otherwise the zeros would be written into what is sent.
TEST_P(CommunicatorOnCuda, APendingCollectiveKeepsItsMemory) {
  Tensor whole = Tensor::empty({kRows * ranks_, kColumns}, DType::kF32, Device::kCuda);
  Tensor own = numbers(kRows, kColumns, rank_).to(Device::kCuda);
  PendingCollective gathering = world_.start_all_gather(own, whole);
  own = {};
  const Tensor zeros = Tensor::zeros({kRows, kColumns}, DType::kF32, Device::kCuda);
  gathering.wait();
  const Tensor gathered = whole.to(Device::kCpu);
  for (int rank = 0; rank < ranks_; ++rank) {
    EXPECT_TRUE(testing::bitwise_equal(gathered.row_slice(rank * kRows, (rank + 1) * kRows),
                                       numbers(kRows, kColumns, rank)));
  }
}

// Large after small and small after large, through whatever memory is kept between them.
TEST_P(CommunicatorOnCuda, TakesSizesInAnyOrder) {
  for (const std::int64_t rows : {3, 1021, 1, 257}) {
    const Tensor sum = sum_of_ranks(rows * ranks_, kColumns, ranks_);
    const auto own_rows = [&](const Tensor& x) {
      return x.row_slice(rank_ * rows, (rank_ + 1) * rows);
    };
    // In place: this rank's rows become the sum's, and then all rows do.
    Tensor whole = numbers(rows * ranks_, kColumns, rank_).to(Device::kCuda);
    Tensor own = own_rows(whole);
    world_.reduce_scatter(whole, own);
    EXPECT_TRUE(testing::bitwise_equal(own.to(Device::kCpu), own_rows(sum)));
    world_.all_gather(own, whole);
    EXPECT_TRUE(testing::bitwise_equal(whole.to(Device::kCpu), sum));

    const int root = static_cast<int>(rows) % ranks_;
    Tensor sent = numbers(rows, kColumns, rank_).to(Device::kCuda);
    world_.broadcast(sent, root);
    EXPECT_TRUE(testing::bitwise_equal(sent.to(Device::kCpu), numbers(rows, kColumns, root)));
  }
}

TEST_P(CommunicatorOnCuda, ASecondCollectiveTakesTheFirstOnesResult) {
  const Tensor own = numbers(61, 67, rank_);
  Tensor x = own.to(Device::kCuda);
  const std::unique_ptr<Communicator> other = world_.split(0);
  PendingCollective first = world_.start_all_reduce(x);
  PendingCollective second = other->start_all_reduce(x);
  second.wait();
  first.wait();
  EXPECT_TRUE(
      testing::bitwise_equal(x.to(Device::kCpu), multiple(sum_of_ranks(61, 67, ranks_), ranks_)));
}

// A rank that leaves must not take along what others still wait for.
TEST_P(CommunicatorOnCuda, WhatWasSentArrivesAfterItsSenderLeft) {
  const std::unique_ptr<Communicator> group = world_.split(0);
  Tensor x = numbers(61, 67, rank_).to(Device::kCuda);
  if (rank_ != 0) std::this_thread::sleep_for(std::chrono::milliseconds(300));
  group->broadcast(x, 0);
  EXPECT_TRUE(testing::bitwise_equal(x.to(Device::kCpu), numbers(61, 67, 0)));
}

INSTANTIATE_TEST_SUITE_P(Ways, CommunicatorOnCuda,
                         ::testing::Values(Way::kShortest, Way::kHostMemory), [](const auto& test) {
                           return test.param == Way::kShortest ? "shortest" : "host_memory";
                         });

}  // namespace
}  // namespace polyhead
