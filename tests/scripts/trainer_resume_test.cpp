// Stopping and going on.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "framework/checkpoint/element_conversion.h"
#include "tests/support/compare.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::train_for;
using testing::TrainingRun;

// Everything that must be the same after a resumed run.
struct State {
  std::vector<double> losses;
  Tensor values, first_moment, second_moment;
};

State state_of(Trainer& trainer, std::vector<double> losses) {
  return {std::move(losses), trainer.store().values().clone(),
          trainer.optimizer().first_moment().clone(), trainer.optimizer().second_moment().clone()};
}

void expect_bitwise(const State& got, const State& want) {
  EXPECT_EQ(got.losses, want.losses);
  EXPECT_TRUE(testing::bitwise_equal(got.values, want.values)) << "values";
  EXPECT_TRUE(testing::bitwise_equal(got.first_moment, want.first_moment)) << "first moment";
  EXPECT_TRUE(testing::bitwise_equal(got.second_moment, want.second_moment)) << "second moment";
}

TEST(Resume, IsBitwiseTheUninterruptedRun) {
  for (const auto& [tensor_ranks, data_ranks, moments] : {std::tuple{1, 1, MomentsDtype::kFp32},
                                                          {2, 2, MomentsDtype::kFp32},
                                                          {1, 1, MomentsDtype::kBf16},
                                                          {2, 2, MomentsDtype::kBf16}}) {
    TrainingRun run;
    run.config.optimizer.moments_dtype = moments;
    // So that a shard's border lies inside a parameter.
    run.config.parallel.distributed_optimizer = moments == MomentsDtype::kBf16;
    std::vector<State> whole(4), resumed(4);
    constexpr int kSteps = 12;
    run.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator& world) {
      trainer.initialize();
      std::vector<double> losses;
      for (int step = 1; step <= kSteps; ++step) {
        losses.push_back(trainer.step().loss);
        if (step == 1 || step == 5 || step == 11) trainer.save();
      }
      whole[static_cast<std::size_t>(world.rank())] = state_of(trainer, losses);
    });
    for (int saved : {1, 5, 11}) {
      run.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator& world) {
        EXPECT_THAT(trainer.resume(run.checkpoint(saved)), IsEmpty());
        EXPECT_EQ(trainer.state().step, saved);
        const std::vector<double> losses = train_for(trainer, kSteps - saved);
        const auto rank = static_cast<std::size_t>(world.rank());
        State want = whole[rank];
        want.losses.erase(want.losses.begin(), want.losses.begin() + saved);
        expect_bitwise(state_of(trainer, losses), want);
      });
    }
  }
}

std::vector<testing::Variant> resumed_variants() {
  std::vector<testing::Variant> variants = testing::attention_variants();
  for (testing::Variant& option : testing::option_variants()) {
    if (option.name == "gemma2") variants.push_back(std::move(option));  // tied embeddings
  }
  return variants;
}

class AtAnotherTensorParallelSize : public ::testing::TestWithParam<testing::Variant> {};

TEST_P(AtAnotherTensorParallelSize, GoesOn) {
  TrainingRun run(GetParam().config);
  std::vector<double> whole;
  run.run(2, 1, [&](Trainer& trainer, const Communicator& world) {
    trainer.initialize();
    train_for(trainer, 5);
    trainer.save();
    const std::vector<double> losses = train_for(trainer, 5);
    if (world.rank() == 0) whole = losses;
  });
  for (const auto& [tensor_ranks, data_ranks] : {std::pair{1, 1}, {4, 1}, {2, 2}}) {
    run.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator&) {
      EXPECT_THAT(trainer.resume(run.checkpoint(5)), ::testing::Contains(HasSubstr("ranks: 2")));
      const std::vector<double> losses = train_for(trainer, 5);
      for (std::size_t i = 0; i < losses.size(); ++i) EXPECT_NEAR(losses[i] / whole[i], 1, 1e-5);
    });
  }
}

TEST_P(AtAnotherTensorParallelSize, NoBitChangesOnTheWayThere) {
  TrainingRun run(GetParam().config);
  const std::filesystem::path first = run.checkpoint(2);
  run.run(2, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    train_for(trainer, 2);
    trainer.save();
  });
  for (const int tensor_ranks : {4, 1, 2}) {
    const std::filesystem::path before = run.checkpoint(2);
    run.config.checkpoint.folder += fmt::format("_tp{}", tensor_ranks);
    run.run(tensor_ranks, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.resume(before);
      trainer.save();
    });
    for (const char* file : {"model.safetensors", "optimizer/exp_avg.safetensors",
                             "optimizer/exp_avg_sq.safetensors"}) {
      const std::string want = testing::read_file(first / file);
      EXPECT_FALSE(want.empty()) << file;
      EXPECT_TRUE(testing::read_file(run.checkpoint(2) / file) == want)
          << file << " at tp " << tensor_ranks;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Variants, AtAnotherTensorParallelSize,
                         ::testing::ValuesIn(resumed_variants()),
                         [](const auto& test) { return test.param.name; });

class RefusedResume : public ::testing::Test {
 protected:
  RefusedResume() {
    run_.run(1, 1, [](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      trainer.step();
      trainer.save();
    });
  }
  std::string refusal() {
    return error_of([&] {
      run_.run(1, 1,
               [&](Trainer& trainer, const Communicator&) { trainer.resume(run_.checkpoint(1)); });
    });
  }
  TrainingRun run_;
};

TEST_F(RefusedResume, AnotherModelIsNamed) {
  run_.config.model.num_query_groups = 2;
  run_.config.training.seed = 7;
  const std::string message = refusal();
  EXPECT_THAT(message, HasSubstr("model.num_query_groups: 8 became 2"));
  EXPECT_THAT(message, HasSubstr("training.seed: 1234 became 7"));
}

TEST_F(RefusedResume, ChangedDataIsNamed) {
  run_.write_dataset("train", 60);
  EXPECT_THAT(refusal(), HasSubstr("data.train: the datasets are not those of"));
}

TEST_F(RefusedResume, ADamagedCheckpointIsNamed) {
  std::filesystem::resize_file(run_.checkpoint(1) / "model.safetensors", 100);
  EXPECT_THAT(refusal(), HasSubstr("model.safetensors"));
}

TEST(Resume, TellsWhatElseChanged) {
  TrainingRun run;
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    trainer.save();
  });
  run.config.training.micro_batch_size = 4;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    EXPECT_THAT(trainer.resume(run.checkpoint(0)),
                ElementsAre("training.micro_batch_size: 2 became 4"));
  });
}

TEST(Resume, RoundsMomentsToAnotherDtype) {
  TrainingRun run;
  State before;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    train_for(trainer, 3);
    trainer.save();
    before = state_of(trainer, {});
  });
  run.config.optimizer.moments_dtype = MomentsDtype::kBf16;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    EXPECT_THAT(trainer.resume(run.checkpoint(3)),
                ElementsAre("optimizer.moments_dtype: fp32 became bf16"));
    expect_bitwise(state_of(trainer, {}), {{},
                                           before.values,
                                           converted(before.first_moment, DType::kBf16),
                                           converted(before.second_moment, DType::kBf16)});
    EXPECT_TRUE(std::isfinite(trainer.step().loss));
  });
}

TEST(Uptraining, CountsOnFromItsSource) {
  TrainingRun run;
  State parent;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    train_for(trainer, 10);
    trainer.save();
    parent = state_of(trainer, train_for(trainer, 3));
  });
  // Without a conversion in between and on the same data, it is the parent that goes on.
  run.config.checkpoint.folder += "_uptrained";
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.start_from(std::filesystem::path(run.folder()) / "run" / checkpoint_name(10));
    EXPECT_EQ(trainer.state().step, 10);
    expect_bitwise(state_of(trainer, train_for(trainer, 3)), parent);
  });
}

}  // namespace
}  // namespace polyhead
