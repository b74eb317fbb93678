// Uptraining that distils: on any layout, over a stop, and that it is refused where it cannot be.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "framework/checkpoint/checkpoint_folder.h"
#include "scripts/convert.h"
#include "tests/support/compare.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::TrainingRun;

namespace fs = std::filesystem;

constexpr std::int64_t kParentSteps = 150;

ModelConfig two_groups() {
  ModelConfig model = testing::small_config();
  model.num_query_groups = 2;
  return model;
}

// An uptraining run that goes on from a checkpoint of two groups.
class Child : public TrainingRun {
 public:
  Child(const fs::path& source, const DistillConfig& distill, std::int64_t steps)
      : TrainingRun(two_groups()) {
    UptrainConfig uptrain;
    uptrain.source = source.string();
    uptrain.steps = steps;
    uptrain.learning_rate_mode = UptrainSchedule::kRewarm;
    uptrain.rewarm_ratio = 1.0;
    uptrain.distill = distill;
    config.optimizer.decay_steps = kParentSteps;
    config.training.train_steps = kParentSteps + steps;
    config.uptrain = uptrain;
  }
};

// A parent that has learnt something, and its conversion to two groups.
class Distillation : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    parent_ = new TrainingRun;
    parent_->config.training.train_steps = kParentSteps;
    parent_->config.optimizer.decay_steps = kParentSteps;
    parent_->run(1, 1, [](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      testing::train_for(trainer, kParentSteps);
      trainer.save();
    });
    convert({.source = parent_->checkpoint(kParentSteps),
             .to = "gqa",
             .groups = 2,
             .seed = {},
             .destination = converted()});
  }
  static void TearDownTestSuite() {
    delete parent_;
    parent_ = nullptr;
  }

  static fs::path teacher() { return parent_->checkpoint(kParentSteps); }
  static fs::path converted() { return parent_->folder() / "converted"; }

  static Child child(const DistillConfig& distill, std::int64_t steps = 12) {
    return Child(converted(), distill, steps);
  }

  // Losses of the first steps, those of the cross-entropy and of the divergence in turn.
  static std::vector<double> losses(const TrainingRun& run, int tensor_ranks, int data_ranks) {
    std::vector<double> found;
    run.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator& world) {
      trainer.start_from(converted());
      for (int step = 0; step < 4; ++step) {
        const StepResult result = trainer.step();
        if (world.rank() > 0) continue;
        found.push_back(result.loss);
        found.push_back(result.distillation_loss.value());
      }
    });
    return found;
  }

  // On text that no model was trained on, before any update.
  static StepResult held_out(const DistillConfig& distill, const fs::path& student) {
    Child run = child(distill);
    run.config.data.train = run.config.data.validation;
    StepResult result;
    run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.start_from(student);
      result = trainer.step();
    });
    return result;
  }

  static TrainingRun* parent_;
};

TrainingRun* Distillation::parent_ = nullptr;

TEST_F(Distillation, BringsAConvertedModelCloserToItsParent) {
  constexpr int kSteps = 60;
  const DistillConfig distill{teacher().string(), 1.0, 2.0};
  const Child run = child(distill, kSteps);
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.start_from(converted());
    testing::train_for(trainer, kSteps);
    trainer.save();
  });
  const StepResult before = held_out(distill, converted());
  const StepResult after = held_out(distill, run.checkpoint(kParentSteps + kSteps));
  EXPECT_LT(after.distillation_loss.value(), 0.5 * before.distillation_loss.value());
  EXPECT_LT(after.loss, before.loss);
}

TEST_F(Distillation, FromTheSameModelIsNothing) {
  Child run = child({converted().string(), 1, 1});
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.start_from(converted());
    const StepResult result = trainer.step();
    EXPECT_EQ(result.distillation_loss, 0);
    EXPECT_EQ(result.gradient_norm, 0);
    EXPECT_GT(result.loss, 0);
  });
}

TEST_F(Distillation, LayoutAndMicroBatchesDoNotMatter) {
  const DistillConfig distill{teacher().string(), 0.7, 1.5};
  const std::vector<double> alone = losses(child(distill), 1, 1);
  const auto expect_same = [&](const std::vector<double>& others, const std::string& what) {
    ASSERT_EQ(others.size(), alone.size()) << what;
    for (std::size_t i = 0; i < alone.size(); ++i) {
      EXPECT_NEAR(others[i] / alone[i], 1, 1e-5) << what << ", number " << i;
    }
  };
  Child run = child(distill);
  for (const auto& [tensor_ranks, data_ranks] : {std::pair{2, 1}, {1, 2}, {2, 2}, {4, 1}}) {
    for (const bool sequence_parallel : {false, true}) {
      run.config.parallel.sequence_parallel = sequence_parallel;
      expect_same(losses(run, tensor_ranks, data_ranks),
                  fmt::format("{} x {}", data_ranks, tensor_ranks));
    }
  }
  run.config.training.micro_batch_size = 4;
  expect_same(losses(run, 1, 1), "larger micro-batches");
  run.config.training.recompute = Recompute::kFull;
  run.config.parallel.distributed_optimizer = true;
  expect_same(losses(run, 1, 2), "recomputed");
}

TEST_F(Distillation, ResumesBitwise) {
  for (const auto& [tensor_ranks, data_ranks] : {std::pair{1, 1}, {2, 2}}) {
    Child run = child({teacher().string(), 0.5, 2.0});
    run.config.data.attend_across_documents = false;
    std::vector<double> whole;
    std::vector<Tensor> values(4);
    run.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator& world) {
      trainer.start_from(converted());
      for (int step = 1; step <= 6; ++step) {
        const StepResult result = trainer.step();
        if (step == 3) trainer.save();
        if (step > 3 && world.rank() == 0) whole.push_back(*result.distillation_loss);
      }
      values[static_cast<std::size_t>(world.rank())] = trainer.store().values().clone();
    });
    run.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator& world) {
      EXPECT_THAT(trainer.resume(run.checkpoint(kParentSteps + 3)), IsEmpty());
      for (std::size_t step = 0; step < 3; ++step) {
        const StepResult result = trainer.step();
        if (world.rank() > 0) continue;
        EXPECT_EQ(result.distillation_loss, whole[step]);
      }
      EXPECT_TRUE(testing::bitwise_equal(trainer.store().values(),
                                         values[static_cast<std::size_t>(world.rank())]));
    });
  }
}

std::string problem_at_start(const TrainingRun& run, int tensor_ranks = 1) {
  return error_of([&] { run.run(tensor_ranks, 1, [](Trainer&, const Communicator&) {}); });
}

TEST_F(Distillation, AnotherTeacherIsNotResumedWith) {
  const fs::path latest = parent_->folder() / "teacher";
  fs::copy(parent_->config.checkpoint.folder, latest, fs::copy_options::recursive);
  Child run = child({latest.string(), 0.5, 1});
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.start_from(converted());
    trainer.step();
    trainer.save();
  });
  const auto resume = [&] {
    return error_of([&] {
      run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
        trainer.resume(run.checkpoint(kParentSteps + 1));
      });
    });
  };
  EXPECT_EQ(resume(), "no error");
  TrainingRun further;
  further.config = parent_->config;
  further.config.checkpoint.folder = latest.string();
  further.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.resume(teacher());
    trainer.step();
    trainer.save();
  });
  EXPECT_THAT(resume(), HasSubstr("is not the checkpoint that"));
  EXPECT_THAT(resume(), HasSubstr("uptrain.distill.from"));
}

// What a trainer says of a teacher whose trainer.json was changed.
std::string problem_with(const TrainingRun& run, const fs::path& folder,
                         const std::function<void(TrainerState&)>& change) {
  TrainerState state = read_trainer_state(folder);
  change(state);
  testing::write_file(folder / "trainer.json", to_json(state));
  return problem_at_start(run);
}

TEST_F(Distillation, TeachersOfOtherTokensAreRefused) {
  const fs::path folder = parent_->folder() / "other";
  fs::copy(teacher(), folder, fs::copy_options::recursive);
  const Child run = child({folder.string(), 0.5, 1});
  EXPECT_EQ(problem_at_start(run), "no error");
  EXPECT_THAT(problem_with(run, folder,
                           [](TrainerState& state) {
                             const std::size_t at = state.config.find("vocab_size: 37");
                             state.config.replace(at, 14, "vocab_size: 41");
                           }),
              HasSubstr("has a vocabulary of 41 tokens, the model that is trained one of 37"));
  EXPECT_THAT(
      problem_with(run, folder,
                   [](TrainerState& state) { state.tokenizer_fingerprint = "letters"; }),
      HasSubstr("was trained with another tokenizer (fingerprint letters, that of the data is "
                "numbers)"));
}

TEST_F(Distillation, TeachersThatCannotBeReadOrSplitAreRefused) {
  EXPECT_THAT(problem_at_start(child({(parent_->folder() / "nowhere").string(), 0.5, 1})),
              HasSubstr("uptrain.distill.from: "));
  ModelConfig model = testing::small_config();
  model.num_attention_heads = 5;
  TrainingRun odd(model);
  odd.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    trainer.save();
  });
  const Child run = child({odd.checkpoint(0).string(), 0.5, 1});
  EXPECT_EQ(problem_at_start(run), "no error");
  EXPECT_THAT(problem_at_start(run, 2),
              HasSubstr("cannot be split over parallel.tensor_model_parallel_size (2) ranks: "
                        "num_attention_heads"));
}

}  // namespace
}  // namespace polyhead
