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

TEST(ConfigChanges, NameKeysOfSectionsInSections) {
  TrainConfig before = config();
  before.uptrain.emplace().distill = DistillConfig{"runs/mha", 0.5, 1.0};
  TrainConfig after = before;
  after.uptrain->distill->temperature = 2.0;
  EXPECT_THAT(described(config_changes(before, after)),
              ElementsAre("uptrain.distill.temperature: 1 became 2"));
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

TEST(SameRun, DrawsFromItsSourcesInTheSameShares) {
  TrainConfig before = config();
  before.data.train = {{"a", 1.0}, {"b", 3.0}};
  const auto refusal = [&](const std::vector<DataSource>& sources) {
    TrainConfig after = before;
    after.data.train = sources;
    const std::string message = error_of([&] { require_same_run(before, after); });
    EXPECT_EQ(same_samples(before, after), message == "no error");
    return message;
  };
  EXPECT_EQ(refusal({{"moved/a", 0.25}, {"moved/b", 0.75}}), "no error");
  EXPECT_THAT(refusal({{"a", 1.0}, {"b", 2.0}}), HasSubstr("weight: 3}] became ["));
  EXPECT_THAT(refusal({{"b", 3.0}, {"a", 1.0}}), HasSubstr("data.train"));
  EXPECT_THAT(refusal({{"a", 1.0}, {"b", 3.0}, {"c", 4.0}}), HasSubstr("data.train"));
  before.data.train = {{"a", 1.0}};
  EXPECT_EQ(refusal({{"a", 5.0}}), "no error");
}

TEST(SameSamples, DependOnSeedLengthSplitAndMasksAlone) {
  const auto same_after = [](auto change) {
    TrainConfig after = config();
    change(after);
    return same_samples(config(), after);
  };
  EXPECT_TRUE(same_after([](TrainConfig& c) { c.model.num_query_groups = 1; }));
  EXPECT_TRUE(same_after([](TrainConfig& c) { c.training.global_batch_size = 3; }));
  EXPECT_TRUE(same_after([](TrainConfig& c) { c.training.train_steps = 11; }));
  EXPECT_FALSE(same_after([](TrainConfig& c) { c.training.seed = 7; }));
  EXPECT_FALSE(same_after([](TrainConfig& c) { c.data.sequence_length = 7; }));
  EXPECT_FALSE(same_after([](TrainConfig& c) { c.data.split = "9,1"; }));
  EXPECT_FALSE(same_after([](TrainConfig& c) { c.data.eod_mask_loss = true; }));
  EXPECT_FALSE(same_after([](TrainConfig& c) { c.data.attend_across_documents = false; }));
  EXPECT_FALSE(same_after([](TrainConfig& c) { c.data.sample_order = SampleOrder::kMegatron; }));
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
