// Tensor parallelism against one rank in f64: hidden states, their gradient, the loss and every
// reassembled parameter gradient, for every variant, with and without sequence parallelism. And
// that the comparison can fail.
#include <gtest/gtest.h>

#include "framework/comm/thread_communicator.h"
#include "tests/support/forgetful_communicator.h"
#include "tests/support/model_run.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

using testing::RunResult;
using testing::RunShape;
using testing::Variant;

constexpr double kTolerance = 1e-12;

struct Split {
  int ranks;
  bool sequence_parallel;
};

class Parallelism : public ::testing::TestWithParam<std::tuple<Variant, Split>> {};

TEST_P(Parallelism, EqualsOneRank) {
  const auto& [variant, split] = GetParam();
  RunResult single, parallel;
  testing::run_model(variant.config, RunShape{}, *make_solo_communicator(), single);
  RunShape shape;
  shape.sequence_parallel = split.sequence_parallel;
  run_on_threads(split.ranks, [&](const Communicator& communicator) {
    testing::run_model(variant.config, shape, communicator, parallel);
  });
  std::string worst;
  const double error = parallel.error_against(single, &worst);
  EXPECT_LE(error, kTolerance) << "worst: " << worst;
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

// Errors of a run at 4 ranks under a communicator that leaves something out.
double error_when(const ModelConfig& config, testing::Omission omission,
                  bool sequence_parallel = false) {
  RunResult single, parallel;
  testing::run_model(config, RunShape{}, *make_solo_communicator(), single);
  RunShape shape;
  shape.sequence_parallel = sequence_parallel;
  run_on_threads(4, [&](const Communicator& communicator) {
    testing::run_model(config, shape, testing::ForgetfulCommunicator(communicator, omission),
                       parallel);
  });
  return parallel.error_against(single);
}

TEST(ParallelismCanFail, WhenReductionsAreForgotten) {
  for (const Variant& variant : testing::attention_variants()) {
    EXPECT_GT(error_when(variant.config, {.all_reduce = true}), 1e-3) << variant.name;
    EXPECT_GT(error_when(variant.config, {.reduce_scatter = true}, true), 1e-3) << variant.name;
  }
}

TEST(ParallelismCanFail, WhenReplicatedKeysAreNotSummed) {
  for (const Variant& variant : testing::attention_variants()) {
    if (variant.config.is_latent() || variant.config.groups() >= 4) continue;
    EXPECT_GT(error_when(variant.config, {.replica_sets = true}), 1e-3) << variant.name;
  }
}

TEST(ParallelismCanFail, WhenTheSharedRotaryKeyIsNotSummed) {
  for (const Variant& variant : testing::attention_variants()) {
    const ModelConfig& config = variant.config;
    if (!config.is_latent()) continue;
    const std::int64_t width =
        config.q_lora_rank.value_or(0) + *config.kv_lora_rank + *config.qk_pos_emb_head_dim;
    const testing::Omission omission{.tail_of_width = width, .tail = *config.qk_pos_emb_head_dim};
    EXPECT_GT(error_when(config, omission), 1e-3) << variant.name;
  }
}

}  // namespace
}  // namespace polyhead
