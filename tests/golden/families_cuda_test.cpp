// The golden folders on CUDA in f32: alone, and under mpirun over tensor-parallel ranks.
#include <gtest/gtest.h>

#include "tests/golden/golden_run.h"
#include "tests/support/ranks.h"

namespace polyhead {
namespace {

using testing::GoldenErrors;
using testing::GoldenFolder;

class FamiliesOnCuda : public ::testing::TestWithParam<std::filesystem::path> {};

constexpr double kTolerance = 1e-4;

TEST_P(FamiliesOnCuda, ComputeWhatTransformersComputes) {
  const GoldenFolder golden(GetParam());
  const Communicator& world = testing::world();
  const ModelConfig& config = golden.model.config;
  if (!model_rule_violations(config, world.size()).empty()) {
    GTEST_SKIP() << "cannot be split over " << world.size() << " ranks";
  }
  if (world.size() > 1) world.connect_devices();
  const GoldenErrors errors = testing::GoldenRun(golden, world, Device::kCuda).errors();
  if (world.rank() == 0) {
    fmt::print("{}: {}\n", GetParam().filename().string(), errors.to_string());
  }
  EXPECT_LE(errors.logits, kTolerance);
  EXPECT_LE(errors.loss, kTolerance);
  EXPECT_LE(errors.gradients, kTolerance) << errors.worst_gradient;
  EXPECT_LE(errors.gradient_norm, kTolerance);
  EXPECT_LE(errors.training_losses, kTolerance);
  EXPECT_LE(errors.training_norms, kTolerance);
  EXPECT_LE(errors.strided, kTolerance);
  EXPECT_LE(errors.hf_strided, kTolerance);
  EXPECT_EQ(errors.greedy, golden.figures.at("greedy").get<std::vector<std::int64_t>>());
}

INSTANTIATE_TEST_SUITE_P(Folders, FamiliesOnCuda, ::testing::ValuesIn(testing::golden_folders()),
                         [](const auto& test) { return test.param.filename().string(); });

}  // namespace
}  // namespace polyhead
