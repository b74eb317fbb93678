// Gradients of a step that writes over what the step before left are those of one that adds to
// zeros.
#include <gtest/gtest.h>

#include "framework/comm/thread_communicator.h"
#include "tests/support/model_run.h"
#include "tests/support/poisoned_gradients.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

struct Sums {
  Tensor loss, gradients;
};

class MicroBatches : public ::testing::TestWithParam<testing::Variant> {
 protected:
  enum class Begin { kZeros, kEmpty };

  static Sums sums_of(const Communicator& group, DType dtype, int micro_batches, Begin begin) {
    constexpr std::int64_t kBatch = 2, kLength = 6;
    const ModelConfig& config = GetParam().config;
    TensorParallel parallel(group, /*sequence_parallel=*/group.size() > 1);
    Model model(config, kLength, parallel, dtype);
    ParameterStore store(model.parameters(), dtype, Device::kCpu);
    store.initialize(5);
    if (begin == Begin::kEmpty) testing::zero_poisoned_grads(store);
    Tensor loss = Tensor::zeros({1}, DType::kF64);
    for (int i = 0; i < micro_batches; ++i) {
      const auto ids = [&](const char* what) {
        return testing::token_ids(kBatch * kLength, *config.vocab_size,
                                  fmt::format("{} {}", what, i));
      };
      Model::Saved saved;
      Tensor dh;
      const Tensor h = model.forward(ids("tokens"), kBatch, saved);
      model.output_loss().loss_and_gradient(h, ids("targets"), 0.1, loss, dh);
      model.backward(dh, saved);
    }
    for (const Parameter* parameter : model.parameters()) {
      EXPECT_FALSE(parameter->grad_is_empty) << parameter->name;
    }
    return {loss, store.grads()};
  }
};

TEST_P(MicroBatches, LeaveTheSameWhateverTheBuffersHeld) {
  for (const int ranks : {1, 2}) {
    run_on_threads(ranks, [](const Communicator& group) {
      for (const DType dtype : {DType::kF32, DType::kF64}) {
        for (const int micro_batches : {1, 3}) {
          SCOPED_TRACE(fmt::format("{} ranks, {}, {} micro-batches", group.size(), name_of(dtype),
                                   micro_batches));
          const Sums want = sums_of(group, dtype, micro_batches, Begin::kZeros);
          const Sums got = sums_of(group, dtype, micro_batches, Begin::kEmpty);
          EXPECT_TRUE(testing::bitwise_equal(got.loss, want.loss));
          EXPECT_TRUE(testing::bitwise_equal(got.gradients, want.gradients));
        }
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, MicroBatches, ::testing::ValuesIn(testing::all_variants()),
                         [](const auto& test) { return test.param.name; });

TEST(OutputChunks, AddToTheFirst) {
  constexpr std::int64_t kTokens = 260, kWide = 65537;
  ASSERT_LT(output_chunk_tokens(kTokens, kWide, DType::kF64, Device::kCpu), kTokens);
  const auto solo = make_solo_communicator();
  TensorParallel parallel(*solo, false);
  ModelConfig config = testing::small_config();
  config.num_layers = 0;
  config.vocab_size = kWide;
  Model model(config, kTokens, parallel, DType::kF64);
  ParameterStore store(model.parameters(), DType::kF64, Device::kCpu);
  store.initialize(5);
  const Tensor h = testing::random_tensor({kTokens, config.hidden_size}, DType::kF64, "h");
  const Tensor targets = testing::token_ids(kTokens, kWide, "targets");
  const auto add = [&](std::int64_t begin, std::int64_t end) {
    Tensor loss = Tensor::zeros({1}, DType::kF64), dh;
    model.output_loss().loss_and_gradient(h.row_slice(begin, end), targets.row_slice(begin, end), 1,
                                          loss, dh);
  };
  for (std::int64_t begin = 0; begin < kTokens; begin += 65) add(begin, begin + 65);
  const Tensor want = store.grads().clone();
  testing::zero_poisoned_grads(store);
  add(0, kTokens);
  EXPECT_LE(testing::relative_error(store.grads(), want), 1e-12);
}

}  // namespace
}  // namespace polyhead
