// Tensor parallelism against one rank in f64, on threads and under mpirun: hidden states, their
// gradient, the loss and every reassembled parameter gradient, for every variant, with and without
// sequence parallelism. And that the comparison can fail.
#include <gtest/gtest.h>

#include "tests/support/forgetful_communicator.h"
#include "tests/support/model_run.h"
#include "tests/support/ranks.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

using testing::RunResult;
using testing::RunShape;
using testing::Variant;

constexpr double kTolerance = 1e-12;  // measured: 9e-14
constexpr double kRed = 1e-3;         // what an omission must show

struct Split {
  int ranks;
  bool sequence_parallel;
};

class Parallelism : public ::testing::TestWithParam<std::tuple<Variant, Split>> {};

RunResult run_alone(const ModelConfig& config) {
  return testing::run_model(config, RunShape{}, *make_solo_communicator());
}

TEST_P(Parallelism, EqualsOneRank) {
  const Variant& variant = std::get<Variant>(GetParam());
  const Split split = std::get<Split>(GetParam());
  const RunResult single = run_alone(variant.config);
  testing::for_each_group({split.ranks}, [&](const Communicator& group) {
    const RunShape shape{.sequence_parallel = split.sequence_parallel};
    const RunResult parallel = testing::run_model(variant.config, shape, group);
    std::string worst;
    const double error = parallel.error_against(single, &worst);
    EXPECT_LE(error, kTolerance) << "worst: " << worst;
    EXPECT_EQ(parallel.copy_error(), 0);
  });
}

std::string test_name(const ::testing::TestParamInfo<Parallelism::ParamType>& test) {
  const auto& [variant, split] = test.param;
  return variant.name + "_tp" + std::to_string(split.ranks) +
         (split.sequence_parallel ? "_sequence_parallel" : "");
}

INSTANTIATE_TEST_SUITE_P(Variants, Parallelism,
                         ::testing::Combine(::testing::ValuesIn(testing::all_variants()),
                                            ::testing::Values(Split{1, true}, Split{2, false},
                                                              Split{2, true}, Split{4, false},
                                                              Split{4, true})),
                         test_name);

// What a run under a communicator that leaves something out differs from one rank by.
struct Damage {
  double whole;   // error_against
  double copies;  // copy_error
};

Damage damage_of(const Variant& variant, const Communicator& group, testing::Omission omission,
                 bool sequence_parallel = false) {
  const RunShape shape{.sequence_parallel = sequence_parallel};
  const RunResult damaged =
      testing::run_model(variant.config, shape, testing::ForgetfulCommunicator(group, omission));
  return {damaged.error_against(run_alone(variant.config)), damaged.copy_error()};
}

TEST(ParallelismCanFail, WhenReductionsAreForgotten) {
  testing::for_each_group({2, 4}, [](const Communicator& group) {
    for (const Variant& variant : testing::attention_variants()) {
      EXPECT_GT(damage_of(variant, group, {.all_reduce = true}).whole, kRed) << variant.name;
      EXPECT_GT(damage_of(variant, group, {.reduce_scatter = true}, true).whole, kRed)
          << variant.name;
    }
  });
}

TEST(ParallelismCanFail, WhenReplicatedKeysAreNotSummed) {
  testing::for_each_group({2, 4}, [](const Communicator& group) {
    for (const Variant& variant : testing::attention_variants()) {
      if (variant.config.is_latent() || variant.config.groups() >= group.size()) continue;
      EXPECT_GT(damage_of(variant, group, {.replica_sets = true}).whole, kRed) << variant.name;
      // Where the owners alone have the sum, only a look at the copies tells.
      const Damage damage = damage_of(variant, group, {.replica_copies = true});
      EXPECT_LE(damage.whole, kTolerance) << variant.name;
      const bool holds_copies = group.rank() % (group.size() / variant.config.groups()) > 0;
      EXPECT_EQ(damage.copies > kRed, holds_copies) << variant.name << ": " << damage.copies;
    }
  });
}

TEST(ParallelismCanFail, WhenTheSharedRotaryKeyIsNotSummed) {
  testing::for_each_group({2, 4}, [](const Communicator& group) {
    for (const Variant& variant : testing::attention_variants()) {
      const ModelConfig& config = variant.config;
      if (!config.is_latent()) continue;
      const std::int64_t rotary = *config.qk_pos_emb_head_dim;
      const testing::Omission omission{
          .tail_of_width = config.q_lora_rank.value_or(0) + *config.kv_lora_rank + rotary,
          .tail = rotary};
      for (const bool sequence_parallel : {false, true}) {
        EXPECT_GT(damage_of(variant, group, omission, sequence_parallel).whole, kRed)
            << variant.name << (sequence_parallel ? ", sequence parallel" : "");
      }
    }
  });
}

}  // namespace
}  // namespace polyhead
