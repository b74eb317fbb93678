// Gradient checks in f64 of whole layers: every variant, every parameter, every input.
#include <gtest/gtest.h>

#include "tests/support/gradcheck.h"
#include "tests/support/model_run.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

using testing::GradientCheck;
using testing::Variant;

constexpr std::int64_t kBatch = 2, kLength = 5;

class LayerGradients : public ::testing::TestWithParam<Variant> {};

TEST_P(LayerGradients, BlockInputAndParameters) {
  const ModelConfig& config = GetParam().config;
  const auto solo = make_solo_communicator();
  TensorParallel parallel(*solo, false);
  // Layer 0: the first of an alternating pattern slides its window.
  TransformerBlock block(config, 0, parallel, DType::kF64, Device::kCpu);
  std::vector<Parameter*> parameters;
  block.collect_parameters(parameters);
  ParameterStore store(parameters, DType::kF64, Device::kCpu);
  store.initialize(7);
  SequenceBatch sequences{kBatch, kLength, {}, {}};
  if (config.position_embedding == PositionEmbedding::kRope) {
    const RotaryFrequencies frequencies = rotary_frequencies(config);
    sequences.rope = ops::make_rope_table(frequencies.inverse_frequencies, frequencies.amplitude,
                                          kLength, DType::kF64);
  }

  Tensor x = testing::random_tensor({kBatch * kLength, config.hidden_size}, DType::kF64, "x");
  Tensor branch = testing::random_tensor(x.shape(), DType::kF64, "branch");
  const Tensor dy = testing::random_tensor(x.shape(), DType::kF64, "dy");
  const auto forward = [&](TransformerBlock::Saved& saved) {
    const ResidualStream y = block.forward({x, branch.clone()}, sequences, saved);
    return testing::weighted_sum(y.x, dy) + (y.branch ? testing::weighted_sum(y.branch, dy) : 0);
  };
  const auto loss = [&] {
    TransformerBlock::Saved saved;
    return forward(saved);
  };
  TransformerBlock::Saved saved;
  forward(saved);
  const Tensor dx = block.backward(dy, sequences, saved);
  GradientCheck check;
  check.add("x", x, dx);
  check.add("branch", branch, dx);
  for (Parameter* parameter : parameters) {
    check.add(parameter->name, parameter->value, parameter->grad);
  }
  check.expect_close(loss);
}

INSTANTIATE_TEST_SUITE_P(Variants, LayerGradients, ::testing::ValuesIn(testing::all_variants()),
                         [](const auto& test) { return test.param.name; });

class EndGradients : public ::testing::TestWithParam<Variant> {};

// Embedding, learned positions, final norm and head, tied and not, with soft-cap and ignored
// targets.
TEST_P(EndGradients, EmbeddingNormAndHead) {
  ModelConfig config = GetParam().config;
  config.num_layers = 0;
  const auto solo = make_solo_communicator();
  TensorParallel parallel(*solo, false);
  Model model(config, kLength, parallel, DType::kF64);
  ParameterStore store(model.parameters(), DType::kF64, Device::kCpu);
  store.initialize(7);
  const std::int64_t tokens = kBatch * kLength;
  const Tensor ids = testing::token_ids(tokens, *config.vocab_size, "ids");
  Tensor targets = testing::token_ids(tokens, *config.vocab_size, "targets");
  targets.data<std::int32_t>()[4] = -1;
  constexpr double kWeight = 0.37;

  Model::Saved saved;
  const Tensor h = model.forward(ids, kBatch, saved);
  Tensor value = Tensor::zeros({1}, DType::kF64), dh;
  model.output_loss().loss_and_gradient(h, targets, kWeight, value, dh);
  model.backward(dh, saved);

  const auto loss = [&] {
    const Tensor losses = model.output_loss().losses(model.infer(ids, kBatch), targets);
    return kWeight * testing::weighted_sum(losses, testing::ones(losses.shape()));
  };
  EXPECT_NEAR(loss(), value.data<double>()[0], 1e-12);
  GradientCheck check;
  for (Parameter* parameter : model.parameters()) {
    check.add(parameter->name, valid_part(*parameter, parameter->value),
              valid_part(*parameter, parameter->grad));
  }
  check.expect_close(loss);
}

INSTANTIATE_TEST_SUITE_P(Variants, EndGradients, ::testing::ValuesIn(testing::option_variants()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace polyhead
