#include "framework/run/run_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <vector>

#include "framework/run/processors.h"

namespace polyhead {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

class RunLogTest : public ::testing::Test {
 protected:
  RunLogTest() { std::filesystem::create_directories(folder_); }
  ~RunLogTest() override { std::filesystem::remove_all(folder_); }

  std::vector<nlohmann::json> records() const {
    std::vector<nlohmann::json> all;
    std::ifstream in(folder_ / "log.jsonl");
    for (std::string line; std::getline(in, line);) all.push_back(nlohmann::json::parse(line));
    return all;
  }

  std::filesystem::path folder_ =
      std::filesystem::path(::testing::TempDir()) / ("run_log_test_" + std::to_string(getpid()));
};

TEST(StepLine, HasAllFields) {
  StepRecord record{.step = 7,
                    .total_steps = 600,
                    .loss = 2.0,
                    .learning_rate = 1e-3,
                    .gradient_norm = 0.5125,
                    .tokens_per_second = 12345.6,
                    .teraflops = 0.0312,
                    .elapsed_seconds = 83.4,
                    .remaining_seconds = 3723,
                    .skipped_steps = 1};
  EXPECT_EQ(describe(record),
            "step 7/600 | loss 2.0000 | ppl 7.39 | lr 1.000e-03 | grad_norm 0.512 | "
            "12346 tokens/s | 0.0312 TFLOP/s | 0:01:23 elapsed | 1:02:03 left | skipped 1");
  record.share_of_peak = 0.413;
  EXPECT_THAT(describe(record), HasSubstr("0.0312 TFLOP/s (41.3 % of peak) |"));
  record.distillation_loss = 0.25;
  EXPECT_THAT(describe(record), HasSubstr("| ppl 7.39 | distillation_loss 0.2500 | lr "));
}

TEST_F(RunLogTest, ResumingRemovesTheStepsThatAreRepeated) {
  {
    RunLog log(folder_, RunLog::kNewRun, true);
    log.note(0, "begins");
    for (std::int64_t step = 1; step <= 4; ++step) {
      log.step({.step = step, .total_steps = 9, .loss = 1.0 / static_cast<double>(step)});
    }
    log.evaluation({.step = 4, .loss = 0.25, .tokens = 100, .seconds = 1});
  }
  std::ofstream(folder_ / "log.jsonl", std::ios::app) << R"({"event":"step","st)";
  {
    RunLog log(folder_, 2, true);
    log.skipped(3, "rank 1: gradient of x");
  }
  const std::vector<nlohmann::json> lines = records();
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines[0]["text"], "begins");
  EXPECT_EQ(lines[2]["step"], 2);
  EXPECT_EQ(lines[2]["loss"], 0.5);
  EXPECT_EQ(lines[3]["event"], "skipped");
  EXPECT_EQ(lines[3]["problem"], "rank 1: gradient of x");
}

TEST_F(RunLogTest, NumbersThatJsonLacksBecomeNull) {
  {
    RunLog log(folder_, RunLog::kNewRun, true);
    log.step({.step = 1, .loss = std::numeric_limits<double>::quiet_NaN()});
  }
  EXPECT_TRUE(records().at(0)["loss"].is_null());
}

TEST_F(RunLogTest, ShowsABarWhereTheLauncherSaysThatThereIsATerminal) {
  const auto output = [&] {
    ::testing::internal::CaptureStdout();
    {
      RunLog log(folder_, RunLog::kNewRun, true);
      log.step({.step = 1, .total_steps = 2});
    }
    return ::testing::internal::GetCapturedStdout();
  };
  EXPECT_THAT(output(), Not(HasSubstr("[=")));
  setenv("POLYHEAD_TERMINAL", "1", 1);
  EXPECT_THAT(output(), HasSubstr("[====================                    ]  50 %"));
  unsetenv("POLYHEAD_TERMINAL");
}

TEST_F(RunLogTest, OneRankWrites) {
  RunLog log(folder_, RunLog::kNewRun, false);
  log.note(1, "unheard");
  EXPECT_FALSE(std::filesystem::exists(folder_ / "log.jsonl"));
}

TEST(Processors, AreListedAsRanges) {
  EXPECT_THAT(processor_mask(), ::testing::MatchesRegex("[0-9]+(-[0-9]+)?(,.*)?"));
}

}  // namespace
}  // namespace polyhead
