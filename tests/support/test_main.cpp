// The main of every test. Under mpirun all ranks run the same tests: rank 0 prints, the others add
// their failures, and one rank's failure fails all. A rank that leaves the common path ends the run
// by the watchdog of the communicator.
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

}  // namespace polyhead::testing

int main(int argc, char** argv) {
  polyhead::set_communication_timeout(120);
  const polyhead::World world(argc, argv);
  polyhead::testing::world_of_test = &world.communicator();
  ::testing::InitGoogleTest(&argc, argv);
  if (const int rank = world.communicator().rank(); rank > 0) {
    ::testing::TestEventListeners& listeners = ::testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new polyhead::testing::FailurePrinter(rank));
  }
  const int failed = RUN_ALL_TESTS();
  return polyhead::testing::largest_over_ranks(failed);
}
