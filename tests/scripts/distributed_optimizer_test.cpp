// Training with optimizer state sharded over the data-parallel ranks against training without.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/compare.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using testing::TrainingRun;

constexpr int kSteps = 20;
constexpr double kTolerance = 1e-5;  // relative

struct Layout {
  int tensor_ranks;
  int data_ranks;
  bool distributed_optimizer;
};

// Losses and gradient norms by turns; the replicas are checked on the way.
std::vector<double> curve_of(Trainer& trainer, int steps) {
  std::vector<double> curve;
  for (int step = 0; step < steps; ++step) {
    const StepResult result = trainer.step();
    curve.push_back(result.loss);
    curve.push_back(result.gradient_norm);
    trainer.check_replicas();
  }
  return curve;
}

void expect_close(const std::vector<double>& got, const std::vector<double>& want,
                  double tolerance = kTolerance) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < want.size(); ++i) {
    ASSERT_NEAR(got[i] / want[i], 1, tolerance) << "step " << i / 2;
  }
}

class DistributedOptimizer : public ::testing::TestWithParam<testing::Variant> {
 protected:
  std::vector<double> train_alone(bool distributed_optimizer) {
    std::vector<double> curve;
    run_.config.parallel.distributed_optimizer = distributed_optimizer;
    run_.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      curve = curve_of(trainer, kSteps);
    });
    return curve;
  }

  TrainingRun run_{GetParam().config};
};

TEST_P(DistributedOptimizer, ChangesNoBitOnASingleRank) {
  EXPECT_EQ(train_alone(true), train_alone(false));
}

TEST_P(DistributedOptimizer, LearnsTheSameOnAnyLayout) {
  const std::vector<double> alone = train_alone(false);
  run_.config.parallel.distributed_optimizer = true;
  for (const auto& [tensor_ranks, data_ranks, sequence_parallel] :
       {std::tuple{1, 2, false}, {1, 4, false}, {2, 2, false}, {2, 2, true}}) {
    if (testing::world().size() > 1 && tensor_ranks * data_ranks > testing::world().size())
      continue;
    SCOPED_TRACE(fmt::format("tp {}, dp {}", tensor_ranks, data_ranks));
    run_.config.parallel.sequence_parallel = sequence_parallel;
    run_.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      expect_close(curve_of(trainer, kSteps), alone);
      const std::int64_t size = trainer.store().size(), ranks = trainer.layout().data->size();
      EXPECT_EQ(size % (64 * ranks), 0);
      EXPECT_EQ(trainer.store().masters().numel() * ranks, size);
      EXPECT_EQ(trainer.optimizer().first_moment().numel() * ranks, size);
      EXPECT_EQ(trainer.optimizer().second_moment().numel() * ranks, size);
    });
  }
}

// On threads alone: mpirun's ranks each have a folder of their own.
TEST_P(DistributedOptimizer, LeavesCheckpointsAsTheyAre) {
  if (testing::world().size() > 1) GTEST_SKIP() << "started by mpirun";
  const std::filesystem::path first = run_.checkpoint(3);
  std::vector<double> whole;
  run_.config.parallel.distributed_optimizer = true;
  run_.run(2, 2, [&](Trainer& trainer, const Communicator& world) {
    trainer.initialize();
    testing::train_for(trainer, 3);
    trainer.save();
    const std::vector<double> rest = curve_of(trainer, 4);
    if (world.rank() == 0) whole = rest;
  });
  int number = 0;
  for (const auto& [tensor_ranks, data_ranks, distributed_optimizer] :
       {Layout{2, 2, true}, {2, 2, false}, {1, 4, true}, {4, 1, false}, {1, 2, true}}) {
    SCOPED_TRACE(fmt::format("tp {}, dp {}, {}", tensor_ranks, data_ranks, distributed_optimizer));
    const std::filesystem::path before = run_.checkpoint(3);
    run_.config.checkpoint.folder += fmt::format("_{}", ++number);
    run_.config.parallel.distributed_optimizer = distributed_optimizer;
    const bool same_layout = number == 1;
    run_.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator&) {
      trainer.resume(before);
      trainer.save();
      const std::vector<double> rest = curve_of(trainer, 4);
      expect_close(rest, whole);
      if (same_layout) {
        EXPECT_EQ(rest, whole);
      }
    });
    for (const char* file : {"model.safetensors", "optimizer/exp_avg.safetensors",
                             "optimizer/exp_avg_sq.safetensors"}) {
      const std::string want = testing::read_file(first / file);
      EXPECT_FALSE(want.empty()) << file;
      EXPECT_TRUE(testing::read_file(run_.checkpoint(3) / file) == want) << file;
    }
  }
}

std::vector<testing::Variant> variants() {
  std::vector<testing::Variant> chosen = testing::attention_variants();
  std::erase_if(chosen, [](const auto& v) { return v.name != "mha" && v.name != "mla"; });
  return chosen;
}

INSTANTIATE_TEST_SUITE_P(Variants, DistributedOptimizer, ::testing::ValuesIn(variants()),
                         [](const auto& test) { return test.param.name; });

// Random bits do not depend on the layout. Gradients do in their last bits, and now and then that
// decides to which side a moment is rounded.
TEST(Bf16Moments, OfADistributedOptimizerLeaveCurvesAndCheckpointsAsTheyAre) {
  if (testing::world().size() > 1) GTEST_SKIP() << "started by mpirun";
  TrainingRun run;
  constexpr double kRoundedTolerance = 3e-5;  // relative
  run.config.optimizer.moments_dtype = MomentsDtype::kBf16;
  run.config.parallel.distributed_optimizer = true;
  std::vector<double> alone;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    alone = curve_of(trainer, kSteps);
  });
  const std::filesystem::path first = run.checkpoint(kSteps);
  run.run(2, 2, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    expect_close(curve_of(trainer, kSteps), alone, kRoundedTolerance);
    EXPECT_EQ(trainer.optimizer().first_moment().dtype(), DType::kBf16);
    trainer.save();
  });
  for (const auto& [tensor_ranks, data_ranks] : {std::pair{1, 3}, {4, 1}, {2, 2}}) {
    SCOPED_TRACE(fmt::format("tp {}, dp {}", tensor_ranks, data_ranks));
    const std::filesystem::path before = run.checkpoint(kSteps);
    run.config.training.global_batch_size = 4 * data_ranks;
    run.config.checkpoint.folder += fmt::format("_{}_{}", tensor_ranks, data_ranks);
    run.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator&) {
      trainer.resume(before);
      trainer.save();
    });
    for (const char* file : {"optimizer/exp_avg.safetensors", "optimizer/exp_avg_sq.safetensors"}) {
      EXPECT_TRUE(testing::read_file(run.checkpoint(kSteps) / file) ==
                  testing::read_file(first / file))
          << file;
    }
  }
}

TEST(ReplicasOfADistributedOptimizer, AreCheckedWhereThereAreAny) {
  TrainingRun run;
  run.config.parallel.distributed_optimizer = true;
  run.run(1, 2, [](Trainer& trainer, const Communicator& world) {
    trainer.initialize();
    trainer.step();
    trainer.check_replicas();
    if (world.rank() == 1) trainer.store().segments().back().parameter->value.set_zero();
    EXPECT_NE(testing::error_of([&] { trainer.check_replicas(); }), "no error");
  });
}

// Borders of shards lie inside a parameter, and on four ranks one shard is all padding.
TEST(ShardedMasters, AreTheWholeOnesCutIntoParts) {
  testing::for_each_group({2, 3, 4}, [](const Communicator& group) {
    Parameter first = replicated_parameter("first", {3, 41}, 0, {});
    Parameter second = replicated_parameter("second", {5}, 0, {});
    Parameter alone_first = first, alone_second = second;
    ParameterStore sharded({&first, &second}, DType::kBf16, Device::kCpu, &group);
    ParameterStore whole({&alone_first, &alone_second}, DType::kBf16, Device::kCpu);
    sharded.initialize(5);
    whole.initialize(5);
    // So that freed memory, which whole_segment may get, does not hold the wanted numbers.
    for (Parameter* parameter : {&alone_first, &alone_second})
      initial_value(*parameter, 6, DType::kF32);
    EXPECT_EQ(sharded.masters().numel() * group.size(), sharded.size());
    for (std::size_t i = 0; i < whole.segments().size(); ++i) {
      const Tensor got = sharded.whole_segment(sharded.masters(), sharded.segments()[i]);
      EXPECT_TRUE(testing::bitwise_equal(got, whole.view(whole.masters(), whole.segments()[i])));
      EXPECT_TRUE(testing::bitwise_equal(sharded.segments()[i].parameter->value,
                                         whole.segments()[i].parameter->value));
    }
  });
}

}  // namespace
}  // namespace polyhead
