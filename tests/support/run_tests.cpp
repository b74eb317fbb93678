#include "tests/support/run_tests.h"

#include <gtest/gtest.h>

#include <cstdio>

#include "framework/comm/hang.h"
#include "framework/comm/world.h"
#include "tests/support/ranks.h"

namespace polyhead::testing {
namespace {

const Communicator* world_of_test = nullptr;

class FailurePrinter final : public ::testing::EmptyTestEventListener {
 public:
  explicit FailurePrinter(int rank) : rank_(rank) {}

 private:
  void OnTestPartResult(const ::testing::TestPartResult& result) override {
    if (!result.failed()) return;
    fmt::print(stderr, "rank {}: {}:{}: {}\n", rank_,
               result.file_name() == nullptr ? "unknown file" : result.file_name(),
               result.line_number(), result.message());
  }

  int rank_;
};

int largest_over_ranks(int value) {
  Tensor largest = Tensor::zeros({1}, DType::kI32);
  largest.data<std::int32_t>()[0] = value;
  world().all_reduce(largest, Reduction::kMax);
  return largest.data<std::int32_t>()[0];
}

}  // namespace

const Communicator& world() {
  return *world_of_test;
}

int run_tests(int argc, char** argv) {
  set_communication_timeout(120);
  const World world(argc, argv);
  world_of_test = &world.communicator();
  ::testing::InitGoogleTest(&argc, argv);
  if (const int rank = world.communicator().rank(); rank > 0) {
    ::testing::TestEventListeners& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new FailurePrinter(rank));
  }
  const int failed = RUN_ALL_TESTS();
  return largest_over_ranks(failed);
}

}  // namespace polyhead::testing
