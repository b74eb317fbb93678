#include "layers/conversion/calibration.h"

#include <gtest/gtest.h>

#include "framework/checkpoint/element_conversion.h"
#include "framework/parameters/parameter_store.h"
#include "tests/support/compare.h"
#include "tests/support/model_run.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

using testing::at;
using testing::random_tensor;

TEST(AttentionInputs, AreMeansOverAllTokens) {
  AttentionInputs inputs(2, 5);
  const Tensor first = random_tensor({7, 5}, DType::kF32, "first");
  const Tensor second = random_tensor({4, 5}, DType::kF32, "second");
  inputs.add(1, first);
  inputs.add(1, second);
  EXPECT_EQ(inputs.tokens(1), 11);
  EXPECT_EQ(inputs.tokens(0), 0);
  const Tensor covariance = inputs.covariance(1), extended = inputs.covariance_with_one(1);
  ASSERT_EQ(covariance.shape(), (Shape{5, 5}));
  ASSERT_EQ(extended.shape(), (Shape{6, 6}));
  for (std::int64_t i = 0; i < 6; ++i) {
    for (std::int64_t j = 0; j < 6; ++j) {
      double sum = 0;
      for (const Tensor& x : {first, second}) {
        for (std::int64_t n = 0; n < x.rows(); ++n) {
          sum += (i < 5 ? at(x, n, i) : 1) * (j < 5 ? at(x, n, j) : 1);
        }
      }
      EXPECT_NEAR(at(extended, i, j), sum / 11, 1e-12);
      if (i < 5 && j < 5) {
        EXPECT_EQ(at(covariance, i, j), at(extended, i, j));
      }
    }
  }
}

// The first layer reads the normalised embedding, which can be computed apart; and attend() on what
// the observer saw is the layer's attention.
TEST(AttentionInputs, AreWhatTheLayersRead) {
  ModelConfig config = testing::small_config();
  config.num_layers = 2;
  constexpr std::int64_t kSequences = 2, kLength = 6;
  const auto solo = make_solo_communicator();
  TensorParallel parallel(*solo, /*sequence_parallel=*/false);
  Model model(config, kLength, parallel, DType::kF64);
  ParameterStore store(model.parameters(), DType::kF64, Device::kCpu);
  store.initialize(4);
  const Tensor tokens = testing::token_ids(kSequences * kLength, *config.vocab_size, "tokens");
  const CalibrationBatch batch{tokens, tokens, kSequences};
  const AttentionInputs inputs = attention_inputs(model, Device::kCpu, std::span(&batch, 1));
  EXPECT_EQ(inputs.tokens(1), kSequences * kLength);

  Model::Saved saved;
  model.forward(tokens, kSequences, saved);
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    const auto& block = saved.blocks[static_cast<std::size_t>(layer)];
    AttentionInputs expected(1, config.hidden_size);
    expected.add(0, block.attention_input);
    EXPECT_TRUE(testing::bitwise_equal(inputs.covariance(layer), expected.covariance(0)));
    Tensor h = model.attend(layer, block.attention_input, kSequences);
    for (std::int64_t i = 0; i < h.numel(); ++i) h.data<double>()[i] += block.x.data<double>()[i];
    EXPECT_LE(testing::relative_error(h, block.h), 1e-14);
  }
}

}  // namespace
}  // namespace polyhead
