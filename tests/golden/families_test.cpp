// Every golden folder against what transformers and PyTorch compute on it. The errors are printed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include "tests/golden/golden_run.h"
#include "tests/support/ranks.h"

namespace polyhead {
namespace {

using testing::GoldenErrors;
using testing::GoldenFolder;

class Families : public ::testing::TestWithParam<std::filesystem::path> {};

TEST_P(Families, ComputeWhatTransformersComputes) {
  const GoldenFolder golden(GetParam());
  for (const int ranks : {1, 2}) {
    GoldenErrors errors;
    run_on_threads(ranks, [&](const Communicator& world) {
      omp_set_num_threads(1);
      const GoldenErrors mine = testing::GoldenRun(golden, world, Device::kCpu).errors();
      if (world.rank() == 0) errors = mine;
    });
    SCOPED_TRACE(fmt::format("tp {}", ranks));
    fmt::print("{} tp {}: {}\n", GetParam().filename().string(), ranks, errors.to_string());
    EXPECT_LE(errors.logits, 1e-5);
    EXPECT_LE(errors.loss, 1e-5);
    EXPECT_LE(errors.gradients, 1e-4) << errors.worst_gradient;
    EXPECT_LE(errors.gradient_norm, 1e-4);
    EXPECT_LE(errors.training_losses, 1e-4);
    EXPECT_LE(errors.training_norms, 1e-4);
    EXPECT_LE(errors.strided, 1e-5);
    EXPECT_LE(errors.hf_strided, 1e-5);
    EXPECT_EQ(errors.greedy, golden.figures.at("greedy").get<std::vector<std::int64_t>>());
  }
}

INSTANTIATE_TEST_SUITE_P(Folders, Families, ::testing::ValuesIn(testing::golden_folders()),
                         [](const auto& test) { return test.param.filename().string(); });

}  // namespace
}  // namespace polyhead
