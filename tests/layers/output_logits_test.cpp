// The logits of the whole vocabulary, put together from the ranks' shares.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/compare.h"
#include "tests/support/model_run.h"
#include "tests/support/ranks.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

constexpr std::int64_t kLength = 8;
constexpr double kTolerance = 1e-12;

struct Result {
  Tensor logits;  // (N, V)
  Tensor losses;  // (N)
};

Tensor targets(const ModelConfig& config) {
  return testing::token_ids(kLength, *config.vocab_size, "targets");
}

Result run(const ModelConfig& config, const Communicator& group, bool sequence_parallel) {
  TensorParallel parallel(group, sequence_parallel);
  Model model(config, kLength, parallel, DType::kF64);
  ParameterStore store(model.parameters(), DType::kF64, Device::kCpu);
  store.initialize(5);
  const Tensor tokens = testing::token_ids(kLength, *config.vocab_size, "tokens");
  const Tensor h = model.infer(tokens, 1);
  return {model.output_loss().logits(h), model.output_loss().losses(h, targets(config))};
}

class OutputLogits : public ::testing::TestWithParam<testing::Variant> {};

TEST_P(OutputLogits, HaveTheLossesOfTheirTargets) {
  const ModelConfig& config = GetParam().config;
  const Result result = run(config, *make_solo_communicator(), false);
  ASSERT_EQ(result.logits.shape(), (Shape{kLength, *config.vocab_size}));
  const Tensor wanted = targets(config);
  for (std::int64_t row = 0; row < kLength; ++row) {
    const double* logits = result.logits.data<double>() + row * *config.vocab_size;
    double sum = 0;
    for (std::int64_t id = 0; id < *config.vocab_size; ++id) sum += std::exp(logits[id]);
    const double loss = std::log(sum) - logits[wanted.data<std::int32_t>()[row]];
    EXPECT_NEAR(loss, result.losses.data<double>()[row], 1e-12) << "row " << row;
  }
}

// 37 tokens are 40 rows on one rank, 2 x 24 on two and 4 x 16 on four: the last has none of its
// own.
TEST_P(OutputLogits, AreTheSameOnEveryRank) {
  const ModelConfig& config = GetParam().config;
  const Result alone = run(config, *make_solo_communicator(), false);
  testing::for_each_group({1, 2, 4}, [&](const Communicator& group) {
    for (const bool sequence_parallel : {false, true}) {
      const Result here = run(config, group, sequence_parallel);
      ASSERT_EQ(here.logits.shape(), alone.logits.shape());
      EXPECT_LE(testing::relative_error(here.logits, alone.logits), kTolerance);
    }
  });
}

INSTANTIATE_TEST_SUITE_P(Variants, OutputLogits, ::testing::ValuesIn(testing::option_variants()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace polyhead
