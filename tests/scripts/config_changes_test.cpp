#include "scripts/config_changes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temporary_folder.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;

TrainConfig config() {
  TrainConfig config;
  config.model = testing::small_config();
  config.data.train = {{"text", 1.0}};
  config.training.train_steps = 10;
  return resolved(config);
}

std::vector<std::string> described(const std::vector<ConfigChange>& changes) {
  std::vector<std::string> texts;
  for (const ConfigChange& change : changes) texts.push_back(change.describe());
  return texts;
}

TEST(ConfigChanges, NameKeysWithBothValues) {
  TrainConfig after = config();
  EXPECT_TRUE(config_changes(config(), after).empty());
  after.model.window_size = 3;
  after.data.train.push_back({"more", 0.5});
  after.training.recompute = Recompute::kFull;
  EXPECT_THAT(described(config_changes(config(), after)),
              ElementsAre("model.window_size: null became 3",
                          HasSubstr("data.train: [{path: \"text\", weight: 1}] became ["),
                          "training.recompute: none became full"));
}

TEST(SameRun, MayMoveItsFilesAndRunLonger) {
  TrainConfig after = config();
  after.data.train[0].path = "elsewhere/text";
  after.training.train_steps = 20;
  EXPECT_EQ(require_same_run(config(), after).size(), 2u);
}

TEST(SameRun, HasOneModelAndOneOrderOfSamples) {
  TrainConfig after = config();
  after.model.qk_norm = true;
  after.data.sequence_length = 99;
  const std::string message = error_of([&] { require_same_run(config(), after); });
  EXPECT_THAT(message, HasSubstr("model.qk_norm: false became true"));
  EXPECT_THAT(message, HasSubstr("data.sequence_length: 0 became 99"));
}

TEST(SameRun, InMegatronsOrderHasAFixedNumberOfSamples) {
  TrainConfig before = config(), after = config();
  before.data.sample_order = after.data.sample_order = SampleOrder::kMegatron;
  after.training.train_steps = 20;
  EXPECT_THAT(error_of([&] { require_same_run(before, after); }),
              HasSubstr("training.train_steps: 10 became 20"));
}

}  // namespace
}  // namespace polyhead
