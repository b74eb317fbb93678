// Training on CUDA against the CPU.
#include <gtest/gtest.h>

#include <cmath>

#include "framework/files/mapped_file.h"
#include "framework/ops/matmul.h"
#include "scripts/matmul_record.h"
#include "scripts/train_config_fields.h"
#include "tests/support/compare.h"
#include "tests/support/op_inputs.h"
#include "tests/support/ranks.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using testing::TrainingRun;
using testing::Variant;

constexpr int kSteps = 20;

struct Curve {
  std::vector<double> losses, norms;
  double validation = 0;
};

Curve curve_of(Trainer& trainer) {
  Curve curve;
  trainer.initialize();
  for (int step = 0; step < kSteps; ++step) {
    const StepResult result = trainer.step();
    EXPECT_EQ(result.problem, "");
    curve.losses.push_back(result.loss);
    curve.norms.push_back(result.gradient_norm);
  }
  curve.validation = trainer.evaluate().loss;
  return curve;
}

void expect_close(const Curve& got, const Curve& want, double tolerance) {
  for (std::size_t step = 0; step < want.losses.size(); ++step) {
    EXPECT_NEAR(got.losses[step] / want.losses[step], 1, tolerance) << "step " << step;
    EXPECT_NEAR(got.norms[step] / want.norms[step], 1, 10 * tolerance) << "step " << step;
  }
  EXPECT_NEAR(got.validation / want.validation, 1, tolerance);
}

// The first step is the host's; the second one is recorded if any is.
TEST(MemoryOnCuda, IsAskedForInTheFirstTwoStepsAlone) {
  for (const bool recorded : {false, true}) {
    for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
      SCOPED_TRACE(fmt::format("{}, recorded: {}", enum_name(recompute), recorded));
      TrainingRun run;
      run.config.training.device = DeviceChoice::kCuda;
      run.config.training.recompute = recompute;
      run.config.training.cuda_graph = recorded;
      run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
        trainer.initialize();
        testing::train_for(trainer, 2);
        const auto asked = [] {
          return std::pair{memory_statistics(Device::kCuda).system_allocations,
                           memory_statistics(Device::kCpu).system_allocations};
        };
        const auto before = asked();
        testing::train_for(trainer, 4);
        EXPECT_EQ(asked(), before);
      });
    }
  }
}

class TrainingOnCuda : public ::testing::TestWithParam<Variant> {
 protected:
  // The curve of each rank of tensor_ranks * data_ranks.
  void compare(DeviceChoice device, Precision precision, int tensor_ranks, int data_ranks,
               const Curve& want, double tolerance) {
    run_.config.training.device = device;
    run_.config.training.precision = precision;
    run_.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator&) {
      expect_close(curve_of(trainer), want, tolerance);
    });
  }
  Curve on_cpu() {
    Curve curve;
    run_.config.training.device = DeviceChoice::kCpu;
    run_.run(1, 1, [&](Trainer& trainer, const Communicator&) { curve = curve_of(trainer); });
    return curve;
  }

  TrainingRun run_{GetParam().config};
};

TEST_P(TrainingOnCuda, FollowsTheCpu) {
  const Curve want = on_cpu();
  compare(DeviceChoice::kCuda, Precision::kFp32, 1, 1, want, 1e-4);
  compare(DeviceChoice::kCuda, Precision::kBf16, 1, 1, want, 0.02);
}

TEST_P(TrainingOnCuda, FollowsTheCpuOnEveryLayout) {
  const int ranks = testing::world().size();
  if (ranks == 1) GTEST_SKIP() << "started without mpirun";
  const Curve want = on_cpu();
  for (int tensor_ranks = 1; tensor_ranks <= ranks; tensor_ranks *= 2) {
    SCOPED_TRACE(tensor_ranks);
    compare(DeviceChoice::kCuda, Precision::kFp32, tensor_ranks, ranks / tensor_ranks, want, 1e-4);
    run_.config.parallel.distributed_optimizer = true;
    compare(DeviceChoice::kCuda, Precision::kFp32, tensor_ranks, ranks / tensor_ranks, want, 1e-4);
    run_.config.parallel.distributed_optimizer = false;
    if (tensor_ranks == 1) continue;
    run_.config.parallel.sequence_parallel = true;
    compare(DeviceChoice::kCuda, Precision::kFp32, tensor_ranks, ranks / tensor_ranks, want, 1e-4);
    run_.config.parallel.sequence_parallel = false;
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, TrainingOnCuda,
                         ::testing::ValuesIn(testing::attention_variants()),
                         [](const auto& test) { return test.param.name; });

TEST(ProductsOnCuda, AreSettledInTheRunFolder) {
  TrainingRun run;
  run.config.training.device = DeviceChoice::kCuda;
  const std::filesystem::path record =
      std::filesystem::path(run.config.checkpoint.folder) / kMatmulRecord;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    EXPECT_FALSE(std::filesystem::exists(record));
    testing::train_for(trainer, 1);
    EXPECT_EQ(MappedFile(record).text(), ops::matmul_choices(Device::kCuda));
  });
}

TEST(TrainingOnCudaRepeats, BitwiseInDeterministicMode) {
  TrainingRun run;
  run.config.training.device = DeviceChoice::kCuda;
  run.config.training.deterministic = true;
  Tensor first, second;
  for (Tensor* result : {&first, &second}) {
    run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      testing::train_for(trainer, 5);
      *result = trainer.store().masters().to(Device::kCpu);
    });
  }
  EXPECT_TRUE(testing::bitwise_equal(first, second));
}

// With everything between the steps that uses the memory of a recorded one.
TEST(RecordedSteps, AreBitwiseThoseOfTheHost) {
  for (const auto& [precision, moments] : {std::pair{Precision::kFp32, MomentsDtype::kFp32},
                                           {Precision::kBf16, MomentsDtype::kBf16}}) {
    TrainingRun run;
    run.config.training.device = DeviceChoice::kCuda;
    run.config.training.precision = precision;
    run.config.optimizer.moments_dtype = moments;
    run.config.training.deterministic = true;
    run.config.model.position_embedding = PositionEmbedding::kLearned;
    run.config.model.max_position_embeddings = 6;
    run.config.data.attend_across_documents = false;
    struct Result {
      std::vector<double> losses;
      Tensor weights;
    } by_host, recorded;
    for (Result* result : {&by_host, &recorded}) {
      run.config.training.cuda_graph = result == &recorded;
      run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
        trainer.initialize();
        for (int step = 0; step < 6; ++step) {
          if (step == 4) trainer.evaluate();
          if (step == 4) release_unused_memory(Device::kCuda);
          result->losses.push_back(trainer.step().loss);
        }
        result->weights = trainer.store().masters().to(Device::kCpu);
      });
    }
    EXPECT_EQ(recorded.losses, by_host.losses);
    EXPECT_TRUE(testing::bitwise_equal(recorded.weights, by_host.weights));
  }
}

// With the communication beside the computation in the recording, or not at all.
TEST(RecordedSteps, LearnTheSameOnEveryLayout) {
  const int ranks = testing::world().size();
  if (ranks == 1) GTEST_SKIP() << "started without mpirun";
  for (int tensor_ranks = 1; tensor_ranks <= ranks; tensor_ranks *= 2) {
    SCOPED_TRACE(tensor_ranks);
    TrainingRun run;
    run.config.training.device = DeviceChoice::kCuda;
    run.config.training.precision = Precision::kFp32;
    run.config.training.deterministic = true;
    run.config.parallel.sequence_parallel = tensor_ranks > 1;
    run.config.parallel.distributed_optimizer = tensor_ranks < ranks;
    Curve by_host;
    std::int64_t sent = 0;
    bool linked = false;
    run.run(tensor_ranks, ranks / tensor_ranks, [&](Trainer& trainer, const Communicator& world) {
      linked = world.runs_beside(Device::kCuda);
      by_host = curve_of(trainer);
      sent = trainer.step().communication.bytes;
    });
    run.config.training.cuda_graph = true;
    if (!linked) {
      const std::string refusal = testing::error_of([&] {
        run.run(tensor_ranks, ranks / tensor_ranks, [](Trainer&, const Communicator&) {});
      });
      EXPECT_NE(refusal.find("training.cuda_graph"), std::string::npos) << refusal;
      continue;
    }
    run.run(tensor_ranks, ranks / tensor_ranks, [&](Trainer& trainer, const Communicator&) {
      expect_close(curve_of(trainer), by_host, 1e-6);
      EXPECT_EQ(trainer.step().communication.bytes, sent);
    });
  }
}

TEST(RecordedSteps, SkipTheUpdateWhereItIsNotFinite) {
  TrainingRun run;
  run.config.training.device = DeviceChoice::kCuda;
  run.config.training.precision = Precision::kFp32;
  run.config.training.cuda_graph = true;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    testing::train_for(trainer, 3);
    Tensor weights = trainer.store().masters();
    const Tensor good = weights.to(Device::kCpu);
    weights.row_slice(0, 1).copy_from(testing::filled({1}, DType::kF32, std::nan("")));
    EXPECT_NE(trainer.step().problem, "");
    EXPECT_EQ(trainer.optimizer().updates(), 3);
    weights.copy_from(good);
    EXPECT_EQ(trainer.step().problem, "");
    EXPECT_EQ(trainer.optimizer().updates(), 4);
  });
}

// With the CPU's random bits.
TEST(Bf16MomentsOnCuda, FollowTheCpu) {
  TrainingRun run;
  run.config.optimizer.moments_dtype = MomentsDtype::kBf16;
  Curve want;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) { want = curve_of(trainer); });
  run.config.training.device = DeviceChoice::kCuda;
  for (const auto& [precision, tolerance] :
       {std::pair{Precision::kFp32, 1e-4}, {Precision::kBf16, 0.02}}) {
    run.config.training.precision = precision;
    run.run(1, 1, [&, allowed = tolerance](Trainer& trainer, const Communicator&) {
      expect_close(curve_of(trainer), want, allowed);
      EXPECT_EQ(trainer.optimizer().first_moment().dtype(), DType::kBf16);
    });
  }
}

TEST(TrainingOnCudaResumes, Bitwise) {
  for (const auto& [precision, moments] : {std::pair{Precision::kFp32, MomentsDtype::kFp32},
                                           {Precision::kBf16, MomentsDtype::kFp32},
                                           {Precision::kBf16, MomentsDtype::kBf16}}) {
    TrainingRun run;
    run.config.training.device = DeviceChoice::kCuda;
    run.config.training.precision = precision;
    run.config.optimizer.moments_dtype = moments;
    Tensor whole, resumed;
    run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      testing::train_for(trainer, 3);
      trainer.save();
      testing::train_for(trainer, 3);
      whole = trainer.store().masters().to(Device::kCpu);
    });
    run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      EXPECT_TRUE(trainer.resume(run.checkpoint(3)).empty());
      testing::train_for(trainer, 3);
      resumed = trainer.store().masters().to(Device::kCpu);
    });
    EXPECT_TRUE(testing::bitwise_equal(resumed, whole));
  }
}

}  // namespace
}  // namespace polyhead
