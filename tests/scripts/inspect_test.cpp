#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

#include "framework/checkpoint/trainer_state.h"
#include "scripts/commands.h"
#include "scripts/train_config.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const std::string kConfig = POLYHEAD_SOURCE_DIR "/configs/quickstart_gqa.yaml";

std::string inspect(const std::string& arguments) {
  const std::unique_ptr<Communicator> world = make_solo_communicator();
  CLI::App app;
  add_inspect_command(app, *world);
  ::testing::internal::CaptureStdout();
  const std::string error = testing::error_of([&] { app.parse("inspect " + arguments); });
  const std::string output = ::testing::internal::GetCapturedStdout();
  return error == "no error" ? output : error;
}

TEST(Inspect, Configuration) {
  EXPECT_THAT(inspect(kConfig), HasSubstr("attention: GQA"));
  EXPECT_THAT(inspect(kConfig + " --set model.num_query_groups=1"), HasSubstr("attention: MQA"));
  EXPECT_THAT(inspect("--set model.num_query_groups=1 --set model.num_layers=3 " + kConfig),
              HasSubstr("attention: MQA"));
  EXPECT_THAT(inspect(kConfig + " --tp 2 --context 100"),
              HasSubstr("one sequence of 100 tokens, 2 tensor-parallel ranks"));
  EXPECT_THAT(inspect(kConfig + " --tp 3"), HasSubstr("must be a multiple of"));
}

TEST(Inspect, Memory) {
  const std::string cpu = " --memory --device cpu";
  EXPECT_THAT(inspect(kConfig), Not(HasSubstr("training step")));
  EXPECT_THAT(inspect(kConfig + cpu), HasSubstr("a training step on cpu in f32, on 1 of 1 ranks"));
  EXPECT_THAT(inspect(kConfig + cpu + " --tp 2"), HasSubstr("on 1 of 2 ranks"));
  EXPECT_THAT(inspect(kConfig + " --memory --device cuda"),
              HasSubstr("a training step on cuda in bf16"));
}

TEST(Inspect, CheckpointAndRunFolder) {
  const testing::TemporaryFolder run;
  std::filesystem::create_directory(run / "step_00000007");
  TrainerState state;
  state.step = 7;
  state.config = to_yaml(load_train_config(kConfig, {}, 1));
  testing::write_file(run / "step_00000007/trainer.json", to_json(state));
  testing::write_file(run / "latest", "step_00000007\n");
  const std::string folder = run.path().string();
  EXPECT_THAT(inspect(folder + "/step_00000007"), HasSubstr("attention: GQA"));
  EXPECT_THAT(inspect(folder), HasSubstr("attention: GQA"));
  EXPECT_THAT(inspect(folder + " --set model.num_layers=2"),
              HasSubstr("--set: changes a file's keys"));
}

TEST(Inspect, ModelFolderOfAnotherProgram) {
  const std::string folder = POLYHEAD_SOURCE_DIR "/tests/golden/gemma2";
  EXPECT_THAT(inspect(folder), HasSubstr("attention: GQA+SWA"));
  EXPECT_THAT(inspect(folder + " --memory"), HasSubstr("has no trainer.json"));
}

TEST(Inspect, WhatIsNotThere) {
  EXPECT_THAT(inspect("absent.yaml"), HasSubstr("absent.yaml: no such file"));
  const testing::TemporaryFolder empty;
  EXPECT_THAT(inspect(empty.path().string()), HasSubstr(empty.path().string()));
  testing::write_file(empty / "uptrain.yaml",
                      "data: {train: [a], sequence_length: 8}\n"
                      "optimizer: {learning_rate: 0.1}\n"
                      "training: {global_batch_size: 1, micro_batch_size: 1}\n"
                      "checkpoint: {folder: x}\n"
                      "uptrain: {source: runs/parent}\n");
  EXPECT_THAT(
      inspect((empty / "uptrain.yaml").string()),
      HasSubstr("takes its model from uptrain.source: the checkpoint runs/parent does not"));
}

}  // namespace
}  // namespace polyhead
