// Whole models on CUDA against the CPU: hidden states, loss and every gradient, for every variant.
// Under mpirun over tensor-parallel ranks, too.
#include <gtest/gtest.h>

#include "tests/support/model_run.h"
#include "tests/support/ranks.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

using testing::RunResult;
using testing::RunShape;
using testing::Variant;

// f32 against f64; measured: 3.0e-5, in the bias of k, whose gradient is a sum that vanishes.
constexpr double kTolerance = 1e-4;
// Of small models whose weights are of order one, relative to a tenth of the largest gradient:
// what vanishes in exact arithmetic is noise in bf16.
constexpr double kBf16Tolerance = 0.1, kBf16Floor = 0.1;

class ModelOnCuda : public ::testing::TestWithParam<Variant> {};

void expect_close(const RunResult& got, const RunResult& want, double tolerance,
                  double floor = 1e-3) {
  std::string worst;
  const double error = got.error_against(want, &worst, floor);
  EXPECT_LE(error, tolerance) << "worst: " << worst;
}

TEST_P(ModelOnCuda, EqualsTheCpu) {
  const ModelConfig& config = GetParam().config;
  const auto solo = make_solo_communicator();
  const RunResult want = testing::run_model(config, {}, *solo);
  for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    expect_close(
        testing::run_model(
            config, {.dtype = DType::kF32, .recompute = recompute, .device = Device::kCuda}, *solo),
        want, kTolerance);
  }
  expect_close(testing::run_model(config, {.dtype = DType::kBf16, .device = Device::kCuda}, *solo),
               want, kBf16Tolerance, kBf16Floor);
}

TEST_P(ModelOnCuda, EqualsOneRankOverTensorParallelRanks) {
  if (testing::world().size() == 1) GTEST_SKIP() << "started without mpirun";
  const ModelConfig& config = GetParam().config;
  const RunResult want = testing::run_model(config, {}, *make_solo_communicator());
  testing::world().connect_devices();
  for (const bool sequence_parallel : {false, true}) {
    const RunResult got = testing::run_model(
        config,
        {.dtype = DType::kF32, .sequence_parallel = sequence_parallel, .device = Device::kCuda},
        testing::world());
    expect_close(got, want, kTolerance);
    EXPECT_EQ(got.copy_error(), 0);
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, ModelOnCuda, ::testing::ValuesIn(testing::all_variants()),
                         [](const auto& test) { return test.param.name; });

}  // namespace
}  // namespace polyhead
