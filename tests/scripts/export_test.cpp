// polyhead export, and what other commands do with a model folder that no training wrote.
#include "scripts/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

#include "framework/bf16.h"
#include "framework/checkpoint/element_conversion.h"
#include "layers/huggingface/config_json.h"
#include "layers/huggingface/config_reader.h"
#include "scripts/convert.h"
#include "scripts/evaluation.h"
#include "scripts/run_start.h"
#include "tests/support/compare.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

using testing::bitwise_equal;
using testing::error_of;
using ::testing::HasSubstr;
using testing::read_file;
using testing::TemporaryFolder;
using testing::TrainingRun;
using testing::write_file;

const fs::path kGoldens = POLYHEAD_SOURCE_DIR "/tests/golden";

constexpr auto kTokenKeys = std::to_array({"bos_token_id", "eos_token_id", "pad_token_id"});

// A golden folder whose config.json has other values.
void copy_golden(const char* family, const fs::path& folder, const nlohmann::json& changes) {
  fs::copy(kGoldens / family, folder);
  auto json = nlohmann::json::parse(read_file(folder / "config.json"));
  json.update(changes);
  write_file(folder / "config.json", json.dump());
}

std::vector<std::string> families() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGoldens)) {
    if (fs::exists(entry.path() / "golden.json")) names.push_back(entry.path().filename());
  }
  std::ranges::sort(names);
  return names;
}

class ExportedFamily : public ::testing::TestWithParam<std::string> {};

TEST_P(ExportedFamily, HasTheSameTensorsBitForBit) {
  const TemporaryFolder folder;
  const fs::path source = kGoldens / GetParam(), result = folder / "result";
  export_model({.source = source, .destination = result, .dtype = std::nullopt});
  const SafetensorsReader before(source, "model"), after(result, "model");
  ASSERT_EQ(after.names(), before.names());
  for (const std::string& name : before.names()) {
    EXPECT_TRUE(bitwise_equal(after.read(name), before.read(name))) << name;
  }
  const auto json_of = [](const fs::path& path) {
    return nlohmann::json::parse(read_file(path / "config.json"));
  };
  for (const char* key : kTokenKeys) EXPECT_EQ(json_of(result)[key], json_of(source)[key]) << key;
  const HuggingFaceModel read = read_huggingface_model(source);
  const std::string type = read.model_type == "deepseek_v2" ? "deepseek_v3" : read.model_type;
  EXPECT_EQ(read_huggingface_model(result).model_type, type);
  EXPECT_EQ(read_file(result / "generation_config.json"),
            read_file(source / "generation_config.json"));
}

INSTANTIATE_TEST_SUITE_P(Golden, ExportedFamily, ::testing::ValuesIn(families()),
                         [](const auto& test) { return test.param; });

// Under the names of hub files: no prefix, masks as buffers, the tied head written out.
TEST(Export, ReadsGpt2AsTheHubHasIt) {
  const TemporaryFolder hub;
  const fs::path source = kGoldens / "gpt2";
  const SafetensorsReader file(source, "model");
  constexpr std::string_view kPrefix = "transformer.";
  std::map<std::string, Tensor> tensors;
  for (const std::string& name : file.names()) {
    tensors[name.substr(name.starts_with(kPrefix) ? kPrefix.size() : 0)] = file.read(name);
  }
  tensors["lm_head.weight"] = tensors.at("wte.weight");
  tensors["h.0.attn.bias"] = tensors["h.1.attn.masked_bias"] = Tensor::zeros({4}, DType::kF32);
  std::vector<TensorInfo> infos;
  for (const auto& [name, tensor] : tensors)
    infos.push_back({name, tensor.dtype(), tensor.shape()});
  SafetensorsWriter writer(hub.path(), "model", infos);
  for (const TensorInfo& info : writer.tensors()) writer.write(tensors.at(info.name));
  writer.finish();
  fs::copy_file(source / "config.json", hub / "config.json");
  const TemporaryFolder folder;
  export_model({.source = hub.path(), .destination = folder / "result", .dtype = std::nullopt});
  const SafetensorsReader after(folder / "result", "model");
  ASSERT_EQ(after.names(), file.names());
  for (const std::string& name : file.names()) {
    EXPECT_TRUE(bitwise_equal(after.read(name), file.read(name))) << name;
  }
}

const nlohmann::json kTokens = {
    {"bos_token_id", 3}, {"eos_token_id", {5, 2, 4}}, {"pad_token_id", 0}};

void expect_tokens(const fs::path& file) {
  const auto json = nlohmann::json::parse(read_file(file));
  for (const char* key : kTokenKeys) EXPECT_EQ(json.at(key), kTokens[key]) << key;
}

TEST(Export, CarriesTheSpecialTokens) {
  const TemporaryFolder folder;
  for (const char* family : {"llama3", "gpt2"}) {
    const fs::path source = folder / family, result = folder / "result" / family;
    copy_golden(family, source, kTokens);
    fs::remove(source / "generation_config.json");
    export_model({.source = source, .destination = result, .dtype = {}});
    expect_tokens(result / "config.json");
    expect_tokens(result / "generation_config.json");
  }
}

TEST(Export, LeavesGenerationAsTheSourceHasIt) {
  const TemporaryFolder folder;
  const fs::path source = folder / "source", result = folder / "result";
  copy_golden("llama2", source, kTokens);
  const std::string generation = R"({"eos_token_id": 7, "temperature": 0.6})";
  write_file(source / "generation_config.json", generation);
  export_model({.source = source, .destination = result, .dtype = {}});
  expect_tokens(result / "config.json");
  EXPECT_EQ(read_file(result / "generation_config.json"), generation);
}

TEST(Export, RefusesSpecialTokensThatTheModelLacks) {
  const TemporaryFolder folder;
  copy_golden("llama2", folder / "source", {{"pad_token_id", -2}});
  EXPECT_THAT(
      error_of([&] {
        export_model({.source = folder / "source", .destination = folder / "out", .dtype = {}});
      }),
      HasSubstr("source/config.json: pad_token_id: got -2; must be a token"));
  EXPECT_FALSE(fs::exists(folder / "out"));
}

TEST(Export, RoundsOnRequest) {
  const TemporaryFolder folder;
  for (const DType dtype : {DType::kBf16, DType::kF16}) {
    const fs::path result = folder / std::string(name_of(dtype));
    export_model({.source = kGoldens / "llama2", .destination = result, .dtype = dtype});
    const SafetensorsReader before(kGoldens / "llama2", "model"), after(result, "model");
    for (const std::string& name : before.names()) {
      EXPECT_TRUE(bitwise_equal(after.read(name), converted(before.read(name), dtype))) << name;
    }
    const auto json = nlohmann::json::parse(read_file(result / "config.json"));
    EXPECT_EQ(json["torch_dtype"], dtype == DType::kF16 ? "float16" : "bfloat16");
  }
}

TEST(Export, RefusesWhatItCannotWrite) {
  const TemporaryFolder folder;
  const auto refusal = [&](const fs::path& source, std::optional<DType> dtype = std::nullopt) {
    return error_of(
        [&] { export_model({.source = source, .destination = folder / "out", .dtype = dtype}); });
  };
  EXPECT_THAT(refusal(folder / "nothing"), HasSubstr("does not exist"));
  fs::copy(kGoldens / "llama2", folder / "model");
  std::string config = read_file(folder / "model/config.json");
  const std::size_t layers = config.find("\"num_hidden_layers\": 2");
  write_file(folder / "model/config.json", config.replace(layers, 22, "\"num_hidden_layers\": 1"));
  EXPECT_THAT(refusal(folder / "model"), HasSubstr("model.layers.1."));
  EXPECT_FALSE(fs::exists(folder / "out"));
  write_file(folder / "out", "in the way");
  EXPECT_THAT(refusal(kGoldens / "llama2"), HasSubstr("exists already"));
}

TEST(Export, OfACheckpointIsItsModelAlone) {
  TrainingRun run;
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    trainer.step();
    trainer.save();
  });
  const fs::path result = run.folder() / "result", checkpoint = run.checkpoint(1);
  export_model({.source = run.config.checkpoint.folder, .destination = result, .dtype = {}});
  EXPECT_FALSE(fs::exists(result / "trainer.json") || fs::exists(result / "optimizer"));
  for (const char* name : {"model.safetensors", "config.json", "generation_config.json"}) {
    EXPECT_EQ(read_file(result / name), read_file(checkpoint / name)) << name;
  }
  EvaluationOptions options;
  options.context = 5;
  const IndexedDataset text(run.write_dataset("text", 3));
  const auto solo = make_solo_communicator();
  EXPECT_EQ(evaluate_checkpoint(result, text, options, *solo).loss,
            evaluate_checkpoint(checkpoint, text, options, *solo).loss);
  std::string damaged = read_file(checkpoint / "model.safetensors");
  damaged.back() ^= 1;
  write_file(checkpoint / "model.safetensors", damaged);
  EXPECT_THAT(
      error_of([&] {
        export_model({.source = checkpoint, .destination = run.folder() / "2", .dtype = {}});
      }),
      HasSubstr("altered since it was written"));
}

TEST(PlainModelFolder, IsWhereUptrainingCanStart) {
  TrainingRun run(testing::small_config());
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    trainer.save();
  });
  const fs::path source = run.folder() / "source";
  export_model({.source = run.checkpoint(0), .destination = source, .dtype = {}});
  TrainConfig config = run.config;
  config.checkpoint.folder = (run.folder() / "uptrained").string();
  config.model = {};
  config.uptrain = UptrainConfig{};
  config.uptrain->source = source.string();
  const auto solo = make_solo_communicator();
  EXPECT_THAT(error_of([&] { prepare_run(config, false, *solo); }),
              HasSubstr("set uptrain.steps or uptrain.tokens"));
  config.uptrain->steps = 3;
  config.uptrain->learning_rate_mode = UptrainSchedule::kRewarm;
  EXPECT_THAT(error_of([&] { prepare_run(config, false, *solo); }),
              HasSubstr("uptrain.learning_rate_mode"));
  config.uptrain->learning_rate_mode = UptrainSchedule::kContinue;
  const RunStart start = prepare_run(config, false, *solo);
  EXPECT_EQ(start.config.training.train_steps, 3);
  EXPECT_EQ(start.config.model.num_attention_heads, 8);
  Trainer trainer(start.config, *solo), original(run.config, *solo);
  trainer.start_from(start.checkpoint);
  original.initialize();
  EXPECT_TRUE(bitwise_equal(trainer.store().values(), original.store().values()));
  EXPECT_EQ(trainer.state().step, 0);

  const fs::path description = source / "config.json";
  auto json = nlohmann::json::parse(read_file(description));
  json["attention_dropout"] = 0.1;
  write_file(description, json.dump());
  EXPECT_THAT(error_of([&] { prepare_run(config, false, *solo); }),
              HasSubstr("attention_dropout: got 0.1; dropout is not computed in training"));
}

// The result is a model folder too, and the same as the conversion of the checkpoint.
TEST(PlainModelFolder, IsConverted) {
  TrainingRun run(testing::small_config());
  run.run(1, 1, [](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    trainer.save();
  });
  const fs::path plain = run.folder() / "plain";
  export_model({.source = run.checkpoint(0), .destination = plain, .dtype = {}});
  for (const std::string to : {"gqa", "mla"}) {
    const auto convert_to = [&](const fs::path& source, const std::string& name) {
      ConvertOptions options{.source = source, .to = to, .destination = run.folder() / name};
      if (to == "gqa") options.groups = 2;
      convert(options);
      return open_model_source(options.destination);
    };
    const ModelSource of_checkpoint = convert_to(run.checkpoint(0), to + "_of_checkpoint");
    const ModelSource of_plain = convert_to(plain, to + "_of_plain");
    EXPECT_TRUE(of_checkpoint.trainer.has_value());
    EXPECT_FALSE(of_plain.trainer.has_value());
    EXPECT_EQ(read_file(of_plain.folder / "model.safetensors"),
              read_file(of_checkpoint.folder / "model.safetensors"));
    EXPECT_TRUE(fs::exists(of_plain.folder / "generation_config.json"));
    EXPECT_TRUE(fs::exists(of_plain.folder / "conversion.json"));
    EXPECT_EQ(nlohmann::json::parse(read_file(of_plain.folder / "config.json"))["model_type"],
              huggingface_model_type(of_checkpoint.model));
  }
}

TEST(PlainModelFolder, KeepsItsSpecialTokensInConversion) {
  const TemporaryFolder folder;
  copy_golden("llama3", folder / "source", kTokens);
  convert({.source = folder / "source", .to = "mqa", .destination = folder / "mqa"});
  convert({.source = folder / "mqa", .to = "mla", .destination = folder / "mla"});
  for (const char* name : {"mqa", "mla"}) {
    expect_tokens(folder / name / "config.json");
    EXPECT_EQ(read_file(folder / name / "generation_config.json"),
              read_file(kGoldens / "llama3/generation_config.json"));
  }
}

}  // namespace
}  // namespace polyhead
