#include "framework/parameters/replica_check.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "framework/comm/thread_communicator.h"
#include "tests/support/sharded_toy.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::ShardedToy;

// Flips one bit of `name` on `drifting` and returns the error of the check, equal on all ranks.
std::string error_after_drift(int ranks, int tensor_size, int drifting, const std::string& name,
                              std::int64_t element = 0) {
  return error_of([&] {
    run_on_threads(ranks, [&](const Communicator& world) {
      ShardedToy toy(world.rank() % tensor_size, tensor_size);
      toy.fill(toy.store().values(), 5);
      if (world.rank() == drifting) {
        for (const Segment& segment : toy.store().segments()) {
          if (segment.parameter->name != name) continue;
          auto* bytes = static_cast<unsigned char*>(segment.parameter->value.raw());
          bytes[element * 4] ^= 1;
        }
      }
      const std::string error = error_of([&] {
        check_replicas(world, toy.store(), {{"values", toy.store().values()}});
      });
      EXPECT_THAT(world.all_gather_strings(error), ::testing::Each(error));
      throw Error(error);
    });
  });
}

TEST(ReplicaCheck, EqualCopiesPass) {
  EXPECT_EQ(error_after_drift(4, 4, -1, ""), "no error");
  EXPECT_EQ(error_after_drift(4, 2, -1, ""), "no error");
  EXPECT_EQ(error_after_drift(1, 1, -1, ""), "no error");
}

TEST(ReplicaCheck, OneBitIsFoundAndNamed) {
  EXPECT_THAT(error_after_drift(4, 4, 2, "model.norm.weight"),
              HasSubstr("model.norm.weight (values) on rank 2 differs from ranks 0, 1, 3"));
  EXPECT_THAT(error_after_drift(4, 4, 0, "model.norm.weight"),
              HasSubstr("model.norm.weight (values) on rank 0 differs from ranks 1, 2, 3"));
  EXPECT_THAT(error_after_drift(2, 2, 1, "model.norm.weight", 5),
              HasSubstr("on rank 1 differs from rank 0"));
}

TEST(ReplicaCheck, CopiesOfKeyHeadsAreCompared) {
  // Four ranks, two groups: ranks 2 and 3 hold the same key head.
  EXPECT_THAT(error_after_drift(4, 4, 3, "model.layers.0.self_attn.k_proj.weight"),
              HasSubstr("k_proj.weight (values) on rank 3 differs from rank 2"));
}

TEST(ReplicaCheck, DataParallelCopiesOfShardsAreCompared) {
  EXPECT_THAT(error_after_drift(4, 2, 3, "model.layers.0.self_attn.o_proj.weight", 7),
              HasSubstr("o_proj.weight (values) on rank 3 differs from rank 1"));
}

TEST(ReplicaCheck, ShardsAndPaddingMayDiffer) {
  // Without data parallelism a shard has no copy to compare with.
  EXPECT_EQ(error_after_drift(2, 2, 1, "model.layers.0.self_attn.q_proj.weight"), "no error");
}

}  // namespace
}  // namespace polyhead
