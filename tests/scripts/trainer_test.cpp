#include "scripts/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <limits>

#include "layers/huggingface/special_tokens.h"
#include "scripts/export.h"
#include "scripts/train_config_fields.h"
#include "tests/support/compare.h"
#include "tests/support/poisoned_gradients.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;
using testing::TrainingRun;

// Weights and moments of a rank, to see whether a step left them alone.
std::vector<Tensor> snapshot(Trainer& trainer) {
  return {trainer.store().values().clone(), trainer.optimizer().first_moment().clone(),
          trainer.optimizer().second_moment().clone()};
}

TEST(Bf16Moments, LearnAsF32OnesDo) {
  constexpr int kSteps = 30;
  constexpr double kTolerance = 1e-3;  // relative; they differ by 2e-4
  const auto losses_of = [](MomentsDtype moments) {
    TrainingRun run;
    run.config.training.train_steps = kSteps;
    run.config.optimizer.moments_dtype = moments;
    std::vector<double> losses;
    run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      losses = testing::train_for(trainer, kSteps);
    });
    return losses;
  };
  const std::vector<double> exact = losses_of(MomentsDtype::kFp32);
  const std::vector<double> rounded = losses_of(MomentsDtype::kBf16);
  EXPECT_LT(exact.back(), 0.8 * exact.front());
  EXPECT_NE(rounded, exact);
  for (std::size_t i = 0; i < exact.size(); ++i) {
    EXPECT_NEAR(rounded[i] / exact[i], 1, kTolerance) << "step " << i;
  }
}

// The losses of a run whose gradients are spoilt between the steps, and those of one left alone.
TEST(Gradients, OfTheStepBeforeAreNotRead) {
  TrainingRun run;
  run.config.model.tie_word_embeddings = true;
  for (const auto& [tensor_ranks, data_ranks, distributed_optimizer] :
       {std::tuple{1, 1, false}, {2, 2, false}, {1, 2, true}}) {
    SCOPED_TRACE(fmt::format("tp {}, dp {}", tensor_ranks, data_ranks));
    run.config.parallel.distributed_optimizer = distributed_optimizer;
    const auto losses_of = [&](bool spoilt) {
      std::vector<double> losses;
      run.run(tensor_ranks, data_ranks, [&](Trainer& trainer, const Communicator& world) {
        trainer.initialize();
        std::vector<double> mine;
        for (int step = 0; step < 5; ++step) {
          if (spoilt) testing::zero_poisoned_grads(trainer.store());
          mine.push_back(trainer.step().loss);
        }
        if (world.rank() == 0) losses = mine;
      });
      return losses;
    };
    EXPECT_EQ(losses_of(true), losses_of(false));
  }
}

TEST(NonFinite, OnOneRankSkipsTheUpdateOnAll) {
  const TrainingRun run;
  run.run(2, 2, [](Trainer& trainer, const Communicator& world) {
    trainer.initialize();
    trainer.step();
    Parameter& norm = *trainer.store().segments().back().parameter;
    const Tensor kept = norm.value.clone();
    if (world.rank() == 2) {
      norm.value.data<float>()[0] = std::numeric_limits<float>::quiet_NaN();
    }
    const std::vector<Tensor> before = snapshot(trainer);
    const StepResult result = trainer.step();
    EXPECT_THAT(result.problem, HasSubstr("rank 2: loss nan, non-finite gradient of model."));
    EXPECT_EQ(trainer.state().step, 2);
    EXPECT_EQ(trainer.optimizer().updates(), 1);
    const std::vector<Tensor> after = snapshot(trainer);
    for (std::size_t i = 0; i < before.size(); ++i) {
      EXPECT_TRUE(testing::bitwise_equal(after[i], before[i]) || world.rank() == 2);
    }
    norm.value.copy_from(kept);
    EXPECT_EQ(trainer.step().problem, "");
    EXPECT_EQ(trainer.optimizer().updates(), 2);
    trainer.check_replicas();
  });
}

TEST(NonFinite, WeightsAreNotSaved) {
  const TrainingRun run;
  const std::string message = error_of([&] {
    run.run(2, 1, [](Trainer& trainer, const Communicator& world) {
      trainer.initialize();
      trainer.save();
      trainer.step();
      if (world.rank() == 1) {
        trainer.store().segments().front().parameter->value.data<float>()[0] =
            std::numeric_limits<float>::infinity();
      }
      trainer.save();
    });
  });
  EXPECT_THAT(message, HasSubstr("step 1: model.embed_tokens.weight holds a number that is not"));
  EXPECT_TRUE(std::filesystem::exists(run.checkpoint(0)));
  EXPECT_FALSE(std::filesystem::exists(run.checkpoint(1)));
}

// The second step has its batch beside that of the first, which is kept.
TEST(Memory, IsAskedForInTheFirstTwoStepsAlone) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "under AddressSanitizer every request goes to the system";
#endif
  for (const Recompute recompute : {Recompute::kNone, Recompute::kSelective, Recompute::kFull}) {
    SCOPED_TRACE(enum_name(recompute));
    TrainingRun run;
    run.config.training.recompute = recompute;
    run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      testing::train_for(trainer, 2);
      const std::int64_t asked = memory_statistics(Device::kCpu).system_allocations;
      testing::train_for(trainer, 4);
      EXPECT_EQ(memory_statistics(Device::kCpu).system_allocations, asked);
    });
  }
}

TEST(Replicas, OneBitOfDriftIsReported) {
  const TrainingRun run;
  const std::string message = error_of([&] {
    run.run(2, 2, [](Trainer& trainer, const Communicator& world) {
      trainer.initialize();
      trainer.check_replicas();
      if (world.rank() == 3) {
        float& element = trainer.store().segments().front().parameter->value.data<float>()[4];
        element = std::nextafter(element, 1.0f);
      }
      trainer.save();
    });
  });
  EXPECT_THAT(message, HasSubstr("model.embed_tokens.weight"));
  EXPECT_FALSE(std::filesystem::exists(run.checkpoint(0)));
}

TEST(Evaluation, ScoresEveryTokenOnceOnAnyLayout) {
  TrainingRun run;
  EvaluationResult alone;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    alone = trainer.evaluate();
  });
  EXPECT_EQ(alone.tokens, (7 * 40 - 1) / 6 * 6);  // 46 samples, no multiple of the batches
  run.config.training.micro_batch_size = 4;
  run.run(2, 2, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    const EvaluationResult result = trainer.evaluate();
    EXPECT_EQ(result.tokens, alone.tokens);
    EXPECT_NEAR(result.loss / alone.loss, 1, 1e-6);
  });
}

TEST(Checkpoints, OldOnesGo) {
  TrainingRun run;
  run.config.checkpoint.keep_last = 2;
  run.config.checkpoint.keep_every = 4;
  run.config.checkpoint.save_interval = 2;
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    for (int step = 1; step <= 10; ++step) {
      trainer.step();
      if (step % 2 == 0) trainer.save();
    }
  });
  EXPECT_EQ(checkpoint_steps(run.config.checkpoint.folder), (std::vector<std::int64_t>{4, 8, 10}));
}

class SpecialTokensOfTraining : public ::testing::Test {
 protected:
  // Of config.json, once generation_config.json was seen to name the same ends.
  SpecialTokens saved_by(const std::function<void(Trainer&)>& start) const {
    std::filesystem::path saved;
    run_.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      start(trainer);
      saved = trainer.save();
    });
    const std::int64_t vocab_size = run_.config.model.vocab_size.value();
    const SpecialTokens tokens = read_special_tokens(saved, vocab_size);
    EXPECT_EQ(read_end_tokens(saved, vocab_size), tokens.eos_token_id);
    return tokens;
  }

  TrainingRun run_;
};

TEST_F(SpecialTokensOfTraining, AreTheEndOfTheDocumentsWhereTheDataHasOne) {
  const auto initialize = [](Trainer& trainer) { trainer.initialize(); };
  const SpecialTokens tokens = saved_by(initialize);
  EXPECT_THAT(tokens.eos_token_id, ElementsAre(0));
  EXPECT_EQ(tokens.bos_token_id, std::nullopt);
  EXPECT_EQ(tokens.pad_token_id, std::nullopt);
  for (const char* name : {"train.json", "validation.json"}) {
    std::filesystem::remove(run_.folder() / name);
  }
  run_.config.checkpoint.folder += "_of_unknown_tokens";
  EXPECT_THAT(saved_by(initialize).eos_token_id, IsEmpty());
}

// As transformers' Trainer has it: a model that learns more documents still ends its turns.
TEST_F(SpecialTokensOfTraining, AreBesidesThoseOfTheModelThatItStartsFrom) {
  saved_by([](Trainer& trainer) { trainer.initialize(); });
  const std::filesystem::path source = run_.folder() / "source";
  export_model({.source = run_.checkpoint(0), .destination = source, .dtype = {}});
  std::string config = testing::read_file(source / "config.json");
  const std::string none = "\"bos_token_id\": null";
  config.replace(config.find(none), none.size(), "\"bos_token_id\": 36");
  testing::write_file(source / "config.json", config);
  testing::write_file(source / "generation_config.json", R"({"eos_token_id": [5, 2]})");
  run_.config.checkpoint.folder += "_uptrained";
  const auto expect_both = [](const SpecialTokens& tokens) {
    EXPECT_THAT(tokens.eos_token_id, ElementsAre(0, 5, 2));
    EXPECT_EQ(tokens.bos_token_id, 36);
  };
  expect_both(saved_by([&](Trainer& trainer) { trainer.start_from(source); }));
  expect_both(saved_by([&](Trainer& trainer) {
    trainer.resume(run_.checkpoint(0));
    trainer.step();
  }));
}

TEST(Uptraining, CountsSamplesOnWhereTheyAreTheSame) {
  TrainingRun run;
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    trainer.step();
    trainer.save();
  });
  std::filesystem::path source = run.checkpoint(1);
  const auto samples_after = [&](auto change) {
    TrainingRun uptrained;
    uptrained.config = run.config;
    change(uptrained.config);
    std::int64_t samples = -1;
    uptrained.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.start_from(source);
      samples = trainer.state().samples;
      EXPECT_EQ(trainer.state().step, 1);
    });
    return samples;
  };
  EXPECT_EQ(samples_after([](TrainConfig& c) { c.training.train_steps = 99; }), 8);
  EXPECT_EQ(samples_after([](TrainConfig& c) { c.training.seed = 7; }), 0);
  EXPECT_EQ(samples_after([](TrainConfig& c) { c.data.sequence_length = 5; }), 0);
  EXPECT_EQ(samples_after([](TrainConfig& c) { c.data.train = c.data.validation; }), 0);
  run.config.data.sample_order = SampleOrder::kMegatron;
  run.config.checkpoint.folder += "_megatron";
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    trainer.step();
    trainer.save();
  });
  source = run.checkpoint(1);
  EXPECT_EQ(samples_after([](TrainConfig&) {}), 0);
}

// What making a trainer on `data_ranks` ranks complains of.
std::string problem(const TrainingRun& run, int data_ranks = 1) {
  return error_of([&] { run.run(1, data_ranks, [](Trainer&, const Communicator&) {}); });
}

TEST(Datasets, MissingOnesAreOneError) {
  TrainingRun run;
  run.config.data.train = {{(run.folder() / "nowhere").string(), 1.0}};
  const std::string message = problem(run, 2);
  EXPECT_THAT(message, StartsWith("data.train: "));
  EXPECT_THAT(message, HasSubstr("nowhere.idx: no such file"));
  EXPECT_THAT(message, HasSubstr("polyhead tokenize"));
}

TEST(Datasets, AreNamedWithoutTheEndingsOfTheirFiles) {
  TrainingRun run;
  for (const std::string ending : {".bin", ".idx"}) {
    run.config.data.train = {{(run.folder() / ("train" + ending)).string(), 1.0}};
    EXPECT_THAT(problem(run), HasSubstr("write " + (run.folder() / "train").string())) << ending;
  }
}

TEST(Validation, IsOpenedWhereItIsEvaluated) {
  TrainingRun run;
  run.config.data.validation = {{(run.folder() / "nowhere").string(), 1.0}};
  EXPECT_THAT(problem(run), StartsWith("data.validation: "));
  run.config.training.eval_interval = 0;
  EXPECT_EQ(problem(run), "no error");
}

TEST(Validation, HasTheTokenizerOfTraining) {
  const TrainingRun run;
  const std::filesystem::path description = run.folder() / "validation.json";
  std::string text = testing::read_file(description);
  const std::string key = "\"tokenizer_fingerprint\": \"";
  ASSERT_NE(text.find(key), std::string::npos);
  testing::write_file(description, text.insert(text.find(key) + key.size(), "other "));
  EXPECT_THAT(problem(run), HasSubstr("data.validation: was made with another tokenizer "
                                      "(fingerprint other numbers) than data.train"));
  std::filesystem::remove(description);
  EXPECT_EQ(problem(run), "no error") << "no tokenizer is known";
}

// More checkpoints than any disk has room for, so that the message tells how many are asked for.
TEST(FreeSpace, IsAskedForTheCheckpointsStillToCome) {
  constexpr std::int64_t kMany = 1'000'000'000'000;
  TrainingRun run;
  run.config.checkpoint.keep_last = kMany;
  const auto expect_needed = [&](std::int64_t checkpoints) {
    EXPECT_THAT(error_of([&] {
                  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
                    if (std::filesystem::exists(run.checkpoint(2))) {
                      trainer.resume(run.checkpoint(2));
                    }
                    trainer.require_free_space();
                  });
                }),
                HasSubstr(fmt::format(", {} checkpoints of ", checkpoints)));
  };
  std::filesystem::create_directory(run.config.checkpoint.folder);
  expect_needed(kMany + 1);
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    for (int step = 1; step <= 3; ++step) {
      trainer.step();
      trainer.save();
    }
  });
  expect_needed(kMany + 1 - 3);
  run.config.checkpoint.keep_last = 2;
  run.config.checkpoint.keep_every = 2;
  run.config.training.train_steps = kMany;
  expect_needed(1 + kMany / 2 - 1);
}

}  // namespace
}  // namespace polyhead
