// The life of a run, from its start to its end.
#include "scripts/train.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "framework/checkpoint/safetensors_reader.h"
#include "scripts/convert.h"
#include "tests/support/compare.h"
#include "tests/support/forgetful_communicator.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using ::testing::Contains;
using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::read_file;
using ::testing::StartsWith;
using testing::TrainingRun;

// A configuration file, section by section.
struct File {
  std::string folder;
  std::string begin =
      "model: {num_layers: 1, hidden_size: 16, ffn_hidden_size: 24, num_attention_heads: 4}\n";
  std::string learning_rate = "2e-3";
  std::string steps = "train_steps: 6, ";
};

class Train : public ::testing::Test {
 protected:
  Train() { file_.folder = (run_.folder() / "run").string(); }

  std::filesystem::path config_file() const { return run_.folder() / "config.yaml"; }
  void write_config() const {
    testing::write_file(
        config_file(),
        file_.begin +
            fmt::format("data: {{train: [{0}/train], validation: [{0}/validation], "
                        "sequence_length: 6}}\n"
                        "optimizer: {{learning_rate: {1}, warmup_steps: 3, clip_grad_norm: 0}}\n"
                        "training: {{{2}global_batch_size: 8, micro_batch_size: 2, "
                        "eval_interval: 3, max_consecutive_skipped_steps: 1}}\n"
                        "checkpoint: {{folder: {3}, save_interval: 2, keep_last: 9}}\n",
                        run_.folder().string(), file_.learning_rate, file_.steps, file_.folder));
  }
  void train(bool resume = false, const std::vector<std::string>& overrides = {}) const {
    write_config();
    run_on_threads(1, [&](const Communicator& world) {
      omp_set_num_threads(1);
      polyhead::train({config_file(), overrides, resume}, world);
    });
  }
  std::filesystem::path folder() const { return file_.folder; }
  std::filesystem::path checkpoint(std::int64_t step) const {
    return folder() / checkpoint_name(step);
  }
  std::vector<nlohmann::json> log() const {
    std::vector<nlohmann::json> records;
    std::istringstream lines(read_file(folder() / "log.jsonl"));
    for (std::string line; std::getline(lines, line);) {
      records.push_back(nlohmann::json::parse(line));
    }
    return records;
  }
  std::vector<std::string> notes() const {
    std::vector<std::string> all;
    for (const nlohmann::json& record : log()) {
      if (record["event"] == "note") all.push_back(record["text"]);
    }
    return all;
  }
  std::vector<double> losses() const {
    std::vector<double> all;
    for (const nlohmann::json& record : log()) {
      if (record["event"] == "step") all.push_back(record["loss"]);
    }
    return all;
  }

  TrainingRun run_;
  File file_;
};

TEST_F(Train, LeavesCheckpointsTheConfigurationAndALog) {
  train();
  EXPECT_EQ(checkpoint_steps(folder()), (std::vector<std::int64_t>{2, 4, 6}));
  EXPECT_THAT(read_file(folder() / "config.yaml"), HasSubstr("vocab_size: 37"));
  EXPECT_EQ(losses().size(), 6u);
  int evaluations = 0;
  for (const nlohmann::json& record : log()) evaluations += record["event"] == "evaluation";
  EXPECT_EQ(evaluations, 2);
}

TEST_F(Train, TheLogBeginsWithWhatTheRunIs) {
  train(/*resume=*/false, {"model.window_size=6"});
  for (const char* line :
       {"model: MHA+SWA, 1 layers",
        "parameters: ", "memory per rank: ", "data: ", "ranks: 1 = ", "computes in f32 by ",
        "rank 0: 1 threads on processors ", "warning: model.window_size: 6 tokens cover"}) {
    EXPECT_THAT(notes(), Contains(StartsWith(line)));
  }
  for (const nlohmann::json& record : log()) {
    if (record["event"] != "step") continue;
    EXPECT_GT(record["share_of_peak"], 0);
    EXPECT_LT(record["share_of_peak"], 10) << "the peak is measured, maybe beside other work";
  }
}

TEST_F(Train, AFinishedRunSaysSo) {
  train();
  EXPECT_THAT(notes(), Not(Contains(HasSubstr("nothing left to do"))));
  train(/*resume=*/true);
  EXPECT_EQ(notes().back(),
            "step 6 of 6: nothing left to do; raise training.train_steps to train on");
}

TEST_F(Train, SkippedStepsAreCountedFromTheBeginning) {
  train();
  for (std::int64_t step : {4, 6}) std::filesystem::remove_all(checkpoint(step));
  TrainerState state = read_trainer_state(checkpoint(2));
  --state.updates;  // as if one had been skipped
  testing::write_file(checkpoint(2) / "trainer.json", to_json(state));
  train(/*resume=*/true);
  EXPECT_EQ(log().back()["event"], "note");
  for (const nlohmann::json& record : log()) {
    if (record["event"] != "step") continue;
    EXPECT_EQ(record["skipped_steps"], record["step"] > 2 ? 1 : 0);
  }
}

TEST_F(Train, DriftIsFoundBetweenSaves) {
  write_config();
  EXPECT_THAT(
      error_of([&] {
        run_on_threads(2, [&](const Communicator& world) {
          omp_set_num_threads(1);
          // Each rank learns from its own samples.
          const testing::ForgetfulCommunicator forgetful(world, {.longer_than = 8});
          polyhead::train({config_file(), {"training.replica_check_interval=1"}, false}, forgetful);
        });
      }),
      HasSubstr("model.embed_tokens.weight"));
  EXPECT_EQ(losses().size(), 1u);
  EXPECT_TRUE(checkpoint_steps(folder()).empty());
}

TEST_F(Train, ResumedRunLogsEveryStepOnce) {
  train();
  const std::vector<double> whole = losses();
  const std::string weights = read_file(checkpoint(6) / "model.safetensors");
  std::filesystem::remove_all(checkpoint(6));
  train(/*resume=*/true);
  EXPECT_EQ(losses(), whole);
  EXPECT_EQ(read_file(checkpoint(6) / "model.safetensors"), weights);
}

TEST_F(Train, ResumePassesOverADamagedCheckpointAndSaysSo) {
  train();
  const std::vector<double> whole = losses();
  std::filesystem::resize_file(checkpoint(6) / "model.safetensors", 99);
  train(/*resume=*/true);
  EXPECT_EQ(losses(), whole);
  EXPECT_THAT(read_file(folder() / "log.jsonl"), HasSubstr("passed over a checkpoint"));
}

TEST_F(Train, NeverOverwritesARun) {
  train();
  EXPECT_THAT(error_of([&] { train(); }), HasSubstr("continue it with --resume"));
}

TEST_F(Train, NeverStartsFromRandomWeightsInPlaceOfACheckpoint) {
  EXPECT_THAT(error_of([&] { train(/*resume=*/true); }), HasSubstr("holds no checkpoint"));
  train();
  for (std::int64_t step : {2, 4, 6}) {
    std::filesystem::remove(checkpoint(step) / "model.safetensors");
  }
  EXPECT_THAT(error_of([&] { train(/*resume=*/true); }), HasSubstr("model.safetensors"));
}

TEST_F(Train, EndsAfterTooManySkippedUpdates) {
  train();
  for (std::int64_t step : {4, 6}) std::filesystem::remove_all(checkpoint(step));
  // A rate that breaks the weights at once: the losses behind it are not finite.
  const std::string message =
      error_of([&] { train(/*resume=*/true, {"optimizer.learning_rate=1e30"}); });
  EXPECT_THAT(message, HasSubstr("2 updates in a row were skipped"));
  EXPECT_THAT(message, HasSubstr("rank 0: non-finite gradient of model."));
  EXPECT_EQ(checkpoint_steps(folder()), (std::vector<std::int64_t>{2, 4}));
  int skipped = 0;
  for (const nlohmann::json& record : log()) skipped += record["event"] == "skipped";
  EXPECT_EQ(skipped, 2);
}

TEST_F(Train, UptrainsAndResumesWithoutItsSource) {
  train();
  const std::filesystem::path source = folder();
  file_ = {.folder = (run_.folder() / "uptrained").string(),
           .begin = fmt::format("uptrain: {{source: {}, steps: 4}}\n", source.string()),
           .steps = ""};
  train();
  EXPECT_EQ(checkpoint_steps(folder()), (std::vector<std::int64_t>{8, 10}));
  const std::vector<double> whole = losses();
  EXPECT_EQ(whole.size(), 4u);

  std::filesystem::remove_all(checkpoint(10));
  std::filesystem::remove_all(source);
  train(/*resume=*/true);
  EXPECT_EQ(losses(), whole);
}

TEST_F(Train, ASourceIsConvertedInBetween) {
  train();
  const std::filesystem::path converted = run_.folder() / "converted";
  convert({.source = folder(), .to = "gqa", .groups = 2, .seed = {}, .destination = converted});
  file_ = {.folder = (run_.folder() / "uptrained").string(),
           .begin = fmt::format("uptrain: {{source: {}, steps: 2}}\n", converted.string()),
           .steps = ""};
  train();
  EXPECT_EQ(checkpoint_steps(folder()), (std::vector<std::int64_t>{8}));
  const TrainerState state = read_trainer_state(checkpoint(8));
  ASSERT_TRUE(state.parent);
  EXPECT_EQ(state.parent->method, "GQA with 2 groups, mean");
  EXPECT_EQ(state.samples, 8 * 8) << "the parent's are counted on";
  EXPECT_EQ(parse_resolved_config(state.config, "trainer.json").model.groups(), 2);
  const std::string key = "model.layers.0.self_attn.k_proj.weight";
  const SafetensorsReader before(converted, "model"), after(checkpoint(8), "model");
  EXPECT_EQ(after.info(key).shape, before.info(key).shape);
  EXPECT_FALSE(testing::bitwise_equal(after.read(key), before.read(key))) << "nothing was learnt";
}

TEST_F(Train, AMissingSourceStopsTheRun) {
  file_.begin = "uptrain: {source: nowhere, steps: 4}\n";
  file_.steps = "";
  EXPECT_THAT(error_of([&] { train(); }), HasSubstr("uptrain.source: the checkpoint nowhere"));
  EXPECT_TRUE(checkpoint_steps(folder()).empty());
}

}  // namespace
}  // namespace polyhead
