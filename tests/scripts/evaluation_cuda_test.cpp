// Perplexities on CUDA against those of the CPU.
#include <gtest/gtest.h>

#include "scripts/evaluation.h"
#include "tests/support/ranks.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using testing::TrainingRun;
using testing::Variant;

class EvaluationOnCuda : public ::testing::TestWithParam<Variant> {};

TEST_P(EvaluationOnCuda, AgreesWithTheCpu) {
  TrainingRun run(GetParam().config);
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    testing::train_for(trainer, 5);
    trainer.save();
  });
  const IndexedDataset text(run.config.data.validation.front().path);
  const auto loss_on = [&](DeviceChoice device, Precision precision, const Communicator& world) {
    const EvaluationOptions options{
        .context = 7,
        .stride = 3,
        .inference = {
            .tensor_parallel_size = world.size(), .device = device, .precision = precision}};
    return evaluate_checkpoint(run.checkpoint(5), text, options, world).loss;
  };
  const auto solo = make_solo_communicator();
  const double want = loss_on(DeviceChoice::kCpu, Precision::kAuto, *solo);
  EXPECT_NEAR(loss_on(DeviceChoice::kCuda, Precision::kFp32, *solo) / want, 1, 1e-5);
  EXPECT_NEAR(loss_on(DeviceChoice::kCuda, Precision::kBf16, *solo) / want, 1, 0.01);
  EXPECT_EQ(loss_on(DeviceChoice::kCuda, Precision::kBf16, *solo),
            loss_on(DeviceChoice::kCuda, Precision::kAuto, *solo));
  if (testing::world().size() == 1) return;
  EXPECT_NEAR(loss_on(DeviceChoice::kCuda, Precision::kFp32, testing::world()) / want, 1, 1e-5);
}

INSTANTIATE_TEST_SUITE_P(Variants, EvaluationOnCuda,
                         ::testing::ValuesIn(testing::attention_variants()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace polyhead
