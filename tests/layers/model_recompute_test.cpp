// Recomputation saves memory and changes no bit, on one rank and on two with sequence parallelism.
#include <gtest/gtest.h>

#include "framework/comm/thread_communicator.h"
#include "tests/support/model_run.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

using testing::RunResult;
using testing::RunShape;
using testing::Variant;

class Recomputation : public ::testing::TestWithParam<Variant> {};

void expect_bitwise(const RunResult& got, const RunResult& want) {
  ASSERT_EQ(got.tensors().size(), want.tensors().size());
  for (const auto& [name, tensor] : want.tensors()) {
    EXPECT_TRUE(testing::bitwise_equal(got.tensors().at(name), tensor)) << name;
  }
}

TEST_P(Recomputation, IsBitwiseTheSame) {
  for (const bool parallel : {false, true}) {
    run_on_threads(parallel ? 2 : 1, [&](const Communicator& communicator) {
      const auto run = [&](Recompute recompute) {
        const RunShape shape{
            .dtype = DType::kF32, .sequence_parallel = parallel, .recompute = recompute};
        return testing::run_model(GetParam().config, shape, communicator);
      };
      const RunResult none = run(Recompute::kNone);
      expect_bitwise(run(Recompute::kSelective), none);
      expect_bitwise(run(Recompute::kFull), none);
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, Recomputation, ::testing::ValuesIn(testing::all_variants()),
                         [](const auto& test) { return test.param.name; });

// Bytes held between forward and backward.
std::size_t bytes_kept(const ModelConfig& config, Recompute recompute) {
  const auto solo = make_solo_communicator();
  TensorParallel parallel(*solo, false);
  Model model(config, 64, parallel, DType::kF32, recompute);
  ParameterStore store(model.parameters(), DType::kF32, Device::kCpu);
  store.initialize(1);
  const std::size_t before = memory_statistics(Device::kCpu).in_use;
  Model::Saved saved;
  model.forward(testing::token_ids(256, *config.vocab_size, "ids"), 4, saved);
  return memory_statistics(Device::kCpu).in_use - before;
}

TEST(RecomputationMemory, ShrinksStepByStep) {
  for (const Variant& variant : testing::attention_variants()) {
    const std::size_t none = bytes_kept(variant.config, Recompute::kNone);
    const std::size_t selective = bytes_kept(variant.config, Recompute::kSelective);
    const std::size_t full = bytes_kept(variant.config, Recompute::kFull);
    EXPECT_LT(static_cast<double>(selective), 0.85 * static_cast<double>(none)) << variant.name;
    EXPECT_LT(static_cast<double>(full), 0.5 * static_cast<double>(selective)) << variant.name;
  }
}

TEST(RecomputationMemory, KeepsTheStatisticsOfNormalizedHeadsAlone) {
  const ModelConfig plain = testing::small_config();
  ModelConfig normalized = plain;
  normalized.qk_norm = true;
  const auto added = [&](Recompute recompute) {
    return static_cast<double>(bytes_kept(normalized, recompute) - bytes_kept(plain, recompute));
  };
  EXPECT_LT(added(Recompute::kSelective), 0.3 * added(Recompute::kNone));
}

// num_query_groups equal to the heads is multi-head attention, not merely close to it.
TEST(GroupedQueries, WithOneGroupAHeadAreMultiHead) {
  ModelConfig absent = testing::small_config(), explicit_groups = absent;
  explicit_groups.num_query_groups = explicit_groups.num_attention_heads;
  const RunShape shape{.dtype = DType::kF32};
  const RunResult multi_head = testing::run_model(absent, shape, *make_solo_communicator());
  const RunResult grouped = testing::run_model(explicit_groups, shape, *make_solo_communicator());
  expect_bitwise(grouped, multi_head);
}

}  // namespace
}  // namespace polyhead
