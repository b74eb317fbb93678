#include "scripts/convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <CLI/CLI.hpp>
#include <cmath>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/checkpoint.h"
#include "framework/checkpoint/safetensors_reader.h"
#include "framework/linear_algebra.h"
#include "layers/huggingface/config_json.h"
#include "scripts/train_config.h"
#include "tests/support/compare.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

using ::testing::AllOf;
using testing::error_of;
using ::testing::HasSubstr;
using testing::read_file;
using testing::TemporaryFolder;
using testing::write_file;

TrainConfig small_config() {
  TrainConfig config;
  config.model.num_layers = 2;
  config.model.hidden_size = 24;
  config.model.ffn_hidden_size = 20;
  config.model.num_attention_heads = 12;
  config.model.vocab_size = 31;
  config.data.train = {{"texts/train"}};
  config.data.sequence_length = 8;
  config.optimizer.learning_rate = 1e-3;
  config.training.train_steps = 10;
  config.training.global_batch_size = config.training.micro_batch_size = 2;
  config.checkpoint.folder = "runs/mha";
  return resolved(config);
}

class Convert : public ::testing::Test {
 protected:
  // Saves the attention of every layer at step 7 of RUN.
  void save(const TrainConfig& config) {
    std::vector<Parameter> parameters;
    for (std::int64_t layer = 0; layer < config.model.num_layers; ++layer) {
      for (const char* projection : {"q_proj", "k_proj", "v_proj", "o_proj"}) {
        const std::string name =
            fmt::format("model.layers.{}.self_attn.{}.weight", layer, projection);
        parameters.push_back(replicated_parameter(name, {24, 24}, 0, {}));
      }
    }
    std::vector<Parameter*> pointers;
    for (Parameter& parameter : parameters) pointers.push_back(&parameter);
    ParameterStore store(pointers, DType::kF32, Device::kCpu);
    store.initialize(3);
    CheckpointDescription description;
    description.trainer.step = 7;
    description.trainer.seed = 3;
    description.trainer.config = to_yaml(config);
    description.config_json = huggingface_config_json(config.model, config.data.sequence_length);
    const auto solo = make_solo_communicator();
    save_checkpoint(run(), *solo, *solo, store, {{"exp_avg", store.make_state(DType::kF32)}},
                    description);
  }
  fs::path run() const { return folder_ / "mha"; }

  // The message of the error that the command line ends with, or "no error".
  std::string command(std::vector<std::string> arguments) {
    CLI::App app;
    const auto solo = make_solo_communicator();
    add_convert_command(app, *solo);
    arguments.insert(arguments.begin(), {"convert", run().string()});
    std::reverse(arguments.begin(), arguments.end());
    try {
      return error_of([&] { app.parse(arguments); });
    } catch (const CLI::ParseError& error) {
      return error.what();
    }
  }

  TemporaryFolder folder_;
};

TEST_F(Convert, WritesACheckpointOfTheSmallerModel) {
  save(small_config());
  const fs::path out = folder_ / "gqa";
  EXPECT_EQ(command({"--to", "gqa", "--groups", "4", "--out", out.string()}), "no error");
  const TrainerState state = verify_checkpoint(out);
  EXPECT_EQ(state.step, 7);
  ASSERT_TRUE(state.parent);
  EXPECT_EQ(state.parent->path, (run() / "step_00000007").string());
  EXPECT_EQ(state.parent->method, "GQA with 4 groups, mean");
  const TrainConfig config = parse_resolved_config(state.config, "trainer.json");
  EXPECT_EQ(config.model.groups(), 4);
  EXPECT_EQ(config.model.num_attention_heads, 12);
  const nlohmann::json json = nlohmann::json::parse(read_file(out / "config.json"));
  EXPECT_EQ(json["num_key_value_heads"], 4);
  EXPECT_EQ(SafetensorsReader(out, "model").info("model.layers.0.self_attn.k_proj.weight").shape,
            (Shape{8, 24}));
}

TEST_F(Convert, MqaIsOneGroup) {
  save(small_config());
  EXPECT_EQ(command({"--to", "mqa", "--method", "random", "--out", (folder_ / "mqa").string()}),
            "no error");
  const TrainerState state = verify_checkpoint(folder_ / "mqa");
  EXPECT_EQ(state.parent->method, "MQA with 1 group, random");
  EXPECT_EQ(parse_resolved_config(state.config, "trainer.json").model.groups(), 1);
}

TEST_F(Convert, AsManyGroupsAsHeadsChangesNoByte) {
  save(small_config());
  EXPECT_EQ(command({"--to", "gqa", "--groups", "12", "--out", (folder_ / "same").string()}),
            "no error");
  EXPECT_EQ(read_file(folder_ / "same/model.safetensors"),
            read_file(run() / "step_00000007/model.safetensors"));
}

TEST_F(Convert, ALayoutThatNoLongerFitsIsLeft) {
  TrainConfig config = small_config();
  config.parallel.tensor_model_parallel_size = 4;
  save(config);
  EXPECT_EQ(command({"--to", "gqa", "--groups", "6", "--out", (folder_ / "six").string()}),
            "no error");
  const TrainConfig six =
      parse_resolved_config(verify_checkpoint(folder_ / "six").config, "trainer.json");
  EXPECT_EQ(six.parallel.tensor_model_parallel_size, 1);
}

// Everything that is not the configuration, the report or trainer.json.
void expect_same_tensors(const fs::path& before, const fs::path& after) {
  int files = 0;
  for (const FileRecord& file : verify_checkpoint(before).files) {
    if (!file.name.ends_with(".safetensors")) continue;
    EXPECT_EQ(read_file(before / file.name), read_file(after / file.name)) << file.name;
    ++files;
  }
  EXPECT_EQ(files, 2);
}

TEST_F(Convert, SlidingWindowsChangeTheConfigurationAlone) {
  save(small_config());
  const fs::path all = folder_ / "swa", some = folder_ / "alternating";
  EXPECT_EQ(command({"--to", "swa", "--window", "5", "--out", all.string()}), "no error");
  EXPECT_EQ(command({"--to", "swa", "--window", "5", "--pattern", "2", "--out", some.string()}),
            "no error");
  expect_same_tensors(run() / "step_00000007", all);
  expect_same_tensors(run() / "step_00000007", some);
  const auto model_of = [](const fs::path& folder) {
    return parse_resolved_config(verify_checkpoint(folder).config, "trainer.json").model;
  };
  EXPECT_EQ(model_of(all).window_size, 5);
  EXPECT_FALSE(model_of(all).window_pattern.has_value());
  EXPECT_EQ(model_of(some).window_pattern.value().global_every, 2);
  EXPECT_EQ(verify_checkpoint(all).parent->method, "MHA+SWA with window 5 on all layers");
  EXPECT_EQ(verify_checkpoint(some).parent->method,
            "MHA+SWA with window 5 on all but every 2. layer");
  EXPECT_EQ(nlohmann::json::parse(read_file(all / "config.json"))["sliding_window"], 5);
}

TEST_F(Convert, ReportsEveryLayer) {
  save(small_config());
  const fs::path out = folder_ / "gqa";
  EXPECT_EQ(command({"--to", "gqa", "--groups", "4", "--method", "medoid", "--out", out.string()}),
            "no error");
  const nlohmann::json report = nlohmann::json::parse(read_file(out / "conversion.json"));
  EXPECT_EQ(report["method"], "GQA with 4 groups, medoid");
  ASSERT_EQ(report["layers"].size(), 2U);
  // Random heads are next to orthogonal: of three the medoid is right, the others are wrong by
  // sqrt(2), so the whole by sqrt(4 / 3).
  EXPECT_NEAR(report["layers"][0]["keys"]["relative_error"], std::sqrt(4.0 / 3), 0.15);
  EXPECT_NEAR(report["layers"][0]["keys"]["cosine_before"], 0, 0.15);
  EXPECT_FALSE(report.contains("calibration"));

  // A conversion of the result replaces the report.
  EXPECT_EQ(error_of([&] {
              convert({.source = out, .to = "swa", .window = 3, .destination = folder_ / "swa"});
            }),
            "no error");
  EXPECT_EQ(nlohmann::json::parse(read_file(folder_ / "swa/conversion.json"))["method"],
            "GQA+SWA with window 3 on all layers");
}

TEST_F(Convert, RefusesWhatItCannotDo) {
  save(small_config());
  const std::string out = (folder_ / "out").string();
  EXPECT_THAT(command({"--to", "swa", "--out", out}), HasSubstr("--window is missing"));
  EXPECT_THAT(command({"--to", "swa", "--window", "0", "--out", out}),
              HasSubstr("window_size: got 0"));
  EXPECT_THAT(command({"--to", "swa", "--window", "4", "--pattern", "1", "--out", out}),
              HasSubstr("window_pattern: got 1; every n-th layer attends globally"));
  EXPECT_THAT(command({"--to", "swa", "--window", "4", "--groups", "2", "--out", out}),
              HasSubstr("--to swa keeps all weights"));
  EXPECT_THAT(command({"--to", "mqa", "--window", "4", "--out", out}),
              HasSubstr("--window and --pattern belong to --to swa"));
  EXPECT_THAT(command({"--to", "mqa", "--calibration-tokens", "4", "--out", out}),
              HasSubstr("--calibrate"));
  EXPECT_THAT(command({"--to", "gqa", "--out", out}), HasSubstr("--groups is missing"));
  EXPECT_THAT(command({"--to", "gqa", "--groups", "5", "--out", out}),
              HasSubstr("12 groups cannot be pooled into 5"));
  EXPECT_THAT(command({"--to", "mqa", "--groups", "2", "--out", out}),
              HasSubstr("mqa has 1 group"));
  EXPECT_THAT(command({"--to", "alibi", "--out", out}), HasSubstr("alibi"));
  EXPECT_THAT(command({"--to", "mla", "--groups", "2", "--out", out}),
              HasSubstr("--to mla has no groups"));
  EXPECT_THAT(command({"--to", "mqa", "--rope-dim", "2", "--out", out}),
              HasSubstr("belong to --to mla"));
  EXPECT_THAT(command({"--to", "mla", "--rope-dim", "2", "--out", out}),
              HasSubstr("--kv-lora-rank and --rope-dim belong together"));
  EXPECT_THAT(command({"--to", "mla", "--q-lora-rank", "2", "--out", out}),
              HasSubstr("give --kv-lora-rank and --rope-dim too"));
  EXPECT_THAT(command({"--to", "mla", "--rope-dim", "2", "--kv-lora-rank", "25", "--out", out}),
              HasSubstr("--kv-lora-rank 25: must lie in 1 to 24"));
  EXPECT_THAT(command({"--to", "mqa", "--method", "median", "--out", out}), HasSubstr("median"));
  EXPECT_FALSE(fs::exists(out));
  EXPECT_THAT(command({"--to", "mqa", "--out", run().string()}), HasSubstr("exists already"));

  write_file(run() / "step_00000007/config.json", "{}");
  EXPECT_THAT(command({"--to", "mqa", "--out", out}),
              AllOf(HasSubstr("step_00000007/config.json"), HasSubstr("truncated")));
}

TEST_F(Convert, AlignmentNeedsLapack) {
  save(small_config());
  const std::string error =
      command({"--to", "mqa", "--method", "aligned-renorm", "--out", (folder_ / "out").string()});
  if (has_linear_algebra()) {
    EXPECT_EQ(error, "no error");
  } else {
    EXPECT_THAT(error, AllOf(HasSubstr("--method aligned-renorm"), HasSubstr("LAPACK")));
  }
}

TEST_F(Convert, LatentAttentionIsExactWithoutRanks) {
  save(small_config());
  const fs::path out = folder_ / "mla";
  EXPECT_EQ(command({"--to", "mla", "--out", out.string()}), "no error");
  const TrainerState state = verify_checkpoint(out);
  EXPECT_EQ(state.parent->method, "MLA with kv_lora_rank 24, 24 rotary dimensions, exact");
  const ModelConfig model = parse_resolved_config(state.config, "trainer.json").model;
  EXPECT_EQ(model.rotary_segments, 12);
  EXPECT_EQ(model.latent_norm, false);
  EXPECT_EQ(nlohmann::json::parse(read_file(out / "config.json"))["model_type"], "polyhead");
  const SafetensorsReader weights(out, "model"), before(run() / "step_00000007", "model"),
      moments(out, "optimizer/exp_avg");
  const std::string prefix = "model.layers.0.self_attn.";
  EXPECT_EQ(weights.info(prefix + "kv_a_proj_with_mqa.weight").shape, (Shape{48, 24}));
  EXPECT_TRUE(testing::bitwise_equal(weights.read(prefix + "o_proj.weight"),
                                     before.read(prefix + "o_proj.weight")));
  EXPECT_EQ(testing::max_abs(moments.read(prefix + "kv_b_proj.weight")), 0);
}

TEST_F(Convert, LatentAttentionHasNoGroups) {
  TrainConfig config = small_config();
  config.model.num_query_groups.reset();
  config.model.kv_channels.reset();
  config.model.kv_lora_rank = 8;
  config.model.qk_head_dim = config.model.qk_pos_emb_head_dim = config.model.v_head_dim = 4;
  save(resolved(config));
  EXPECT_THAT(command({"--to", "mqa", "--out", (folder_ / "out").string()}),
              HasSubstr("multi-head latent attention"));
}

}  // namespace
}  // namespace polyhead
