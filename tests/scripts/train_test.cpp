// The life of a run, from its start to its end.
#include "scripts/train.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/support/compare.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::read_file;
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

  void train(bool resume = false, const std::vector<std::string>& overrides = {}) {
    testing::write_file(
        run_.folder() / "config.yaml",
        file_.begin +
            fmt::format("data: {{train: [{0}/train], validation: [{0}/validation], "
                        "sequence_length: 6}}\n"
                        "optimizer: {{learning_rate: {1}, warmup_steps: 3, clip_grad_norm: 0}}\n"
                        "training: {{{2}global_batch_size: 8, micro_batch_size: 2, "
                        "eval_interval: 3, max_consecutive_skipped_steps: 1}}\n"
                        "checkpoint: {{folder: {3}, save_interval: 2, keep_last: 9}}\n",
                        run_.folder().string(), file_.learning_rate, file_.steps, file_.folder));
    run_on_threads(1, [&](const Communicator& world) {
      omp_set_num_threads(1);
      polyhead::train({run_.folder() / "config.yaml", overrides, resume}, world);
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

TEST_F(Train, AMissingSourceStopsTheRun) {
  file_.begin = "uptrain: {source: nowhere, steps: 4}\n";
  file_.steps = "";
  EXPECT_THAT(error_of([&] { train(); }), HasSubstr("nowhere"));
  EXPECT_TRUE(checkpoint_steps(folder()).empty());
}

}  // namespace
}  // namespace polyhead
