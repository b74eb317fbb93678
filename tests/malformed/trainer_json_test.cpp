#include <functional>
#include <nlohmann/json.hpp>

#include "framework/checkpoint/trainer_state.h"
#include "tests/malformed/malformed_file.h"

namespace polyhead {
namespace {

using namespace testing;
using nlohmann::json;
using ::testing::ValuesIn;

TrainerState valid_state() {
  TrainerState state;
  state.step = 7;
  state.config = "model: {num_layers: 1}\n";
  state.environment = {"OpenBLAS", 2, 2, 1, 2};
  state.parent = Parent{"runs/mha", 3, "0f", "mean"};
  state.files = {{"model.safetensors", 100, "00ff"}};
  return state;
}

// The valid text after a change, with the checksum that belongs to it: a forger can make one.
std::string sealed(const std::function<void(json&)>& change) {
  json document = json::parse(to_json(valid_state()));
  change(document);
  document.erase("checksum");
  const std::string text = document.dump();
  document["checksum"] = content_hash(std::as_bytes(std::span(text)));
  return document.dump(2);
}

std::string with(std::string_view from, std::string_view to) {
  return replaced(to_json(valid_state()), from, to);
}

std::vector<MalformedFile> texts() {
  const std::string valid = to_json(valid_state());
  const auto tail = [&](const std::string& bytes) { return valid + bytes; };
  return {
      {"Empty", "", "not valid JSON"},
      {"CutOff", valid.substr(0, valid.size() / 2), "not valid JSON"},
      {"TextBehindTheObject", tail("x"), "not valid JSON"},
      {"TwoObjects", tail("{}"), "not valid JSON"},
      {"ZeroByteBehindTheObject", tail(std::string("\0", 1)), "is zero"},
      {"InvalidUtf8", with("runs/mha", "runs/\xFF"), "not valid JSON"},
      {"ManyArrays", repeated("[", 100'000), "nests deeper than 16 levels"},
      {"TooLarge", tail(std::string(16 << 20, ' ')), "at most 16777216 are read"},
      {"KeyTwice", with("\"samples\"", "\"step\""), "the key 'step' appears twice"},
      {"ChecksumTwice", with("\"samples\"", "\"checksum\""), "the key 'checksum' appears twice"},
      {"Array", "[]", "expected an object"},
      {"Null", "null", "expected an object"},
      {"String", "\"trainer\"", "expected an object"},
      {"NoVersion", "{}", "format_version is missing"},
      {"VersionIsAString", R"({"format_version": "1"})", "format_version must be a non-negative"},
      {"VersionIsAFraction", R"({"format_version": 1.0})", "format_version must be a non-negative"},
      {"VersionOfTheFuture", R"({"format_version": 2})", "format version 2, this program reads"},
      {"NoChecksum", R"({"format_version": 1})", "checksum is missing"},
      {"ChecksumIsANumber", R"({"format_version": 1, "checksum": 0})", "checksum must be a string"},
      {"ChecksumIsEmpty", R"({"format_version": 1, "checksum": ""})",
       "altered since it was written"},
      {"StepAltered", with("\"step\": 7", "\"step\": 8"), "altered since it was written"},
      {"ConfigAltered", with("num_layers: 1", "num_layers: 2"), "altered since it was written"},
      {"FilesAltered", with("00ff", "00fe"), "altered since it was written"},
      {"EnvironmentAltered", with("OpenBLAS", "OpenBLAz"), "altered since it was written"},
      {"ParentAltered", with("mean", "first"), "altered since it was written"},
      {"KeyAdded", with("{\n  \"checksum\"", "{\n  \"a\": 1,\n  \"checksum\""), "altered since"},
  };
}

// Each key missing, and each with a value of the wrong type.
void add_key(std::vector<MalformedFile>& cases, const json::json_pointer& object,
             const std::string& key, const json& wrong, const std::string& rule) {
  const std::string name = object.empty() ? key : object.back() + "_" + key;
  cases.push_back({name + "Missing", sealed([&](json& document) { document[object].erase(key); }),
                   key + " is missing"});
  cases.push_back({name + "OfAnotherType",
                   sealed([&](json& document) { document[object][key] = wrong; }),
                   key + " " + rule});
}

std::vector<MalformedFile> keys() {
  std::vector<MalformedFile> cases;
  const std::string integer = "must be a non-negative integer", text = "must be a string";
  const json::json_pointer root, environment("/environment"), parent("/parent"), file("/files/0");
  for (const char* key : {"step", "updates", "samples", "tokens", "seed"}) {
    add_key(cases, root, key, "7", integer);
  }
  for (const char* key : {"config", "dataset_fingerprint", "tokenizer_fingerprint"}) {
    add_key(cases, root, key, nullptr, text);
  }
  add_key(cases, environment, "blas", 1, text);
  for (const char* key :
       {"threads", "world_size", "tensor_model_parallel_size", "data_parallel_size"}) {
    add_key(cases, environment, key, 1.5, integer);
  }
  for (const char* key : {"path", "hash", "method"}) {
    add_key(cases, parent, key, json::array(), text);
  }
  add_key(cases, parent, "step", true, integer);
  for (const char* key : {"name", "xxh3_128"}) add_key(cases, file, key, json::object(), text);
  add_key(cases, file, "bytes", -1, integer);
  return cases;
}

std::vector<MalformedFile> values() {
  const auto set = [](const char* pointer, const json& value) {
    return sealed([&](json& document) { document[json::json_pointer(pointer)] = value; });
  };
  const auto named = [&](const std::string& name) { return set("/files/0/name", name); };
  return {
      {"StepNegative", set("/step", -1), "step must be a non-negative integer"},
      {"StepBeyond63Bits", set("/step", 9223372036854775808U), "at most 9223372036854775807"},
      {"StepBeyond64Bits", set("/step", 1e20), "step must be a non-negative integer"},
      {"SeedNull", set("/seed", nullptr), "seed must be a non-negative integer"},
      {"EnvironmentMissing", sealed([](json& document) { document.erase("environment"); }),
       "environment is missing"},
      {"EnvironmentIsAnArray", set("/environment", json::array()),
       "environment: expected an object"},
      {"ParentIsAString", set("/parent", "runs/mha"), "parent: expected an object"},
      {"ParentIsNull", set("/parent", nullptr), "parent: expected an object"},
      {"TeacherIsANumber", set("/teacher", 7), "teacher must be"},
      {"FilesMissing", sealed([](json& document) { document.erase("files"); }), "files is missing"},
      {"FilesIsAnObject", set("/files", json::object()), "files must be an array"},
      {"FileIsAString", set("/files/0", "model.safetensors"), "files: expected an object"},
      {"FileInTheParent", named("../model.safetensors"), "outside of the checkpoint"},
      {"FileFarAbove", named("../../etc/passwd"), "'../../etc/passwd', which is outside"},
      {"FileAboveByASubfolder", named("a/../../b"), "outside of the checkpoint"},
      {"FileAbsolute", named("/etc/passwd"), "'/etc/passwd', which is outside"},
      {"FileWithoutAName", named(""), "lists '', which is outside of the checkpoint"},
      {"FileWithAZeroByte", named(std::string("a\0b", 3)), "'a?b', which is outside"},
      {"FileWithAnEscapeSequence", named("\x1B[2J"), "'?[2J', which is outside"},
  };
}

class MalformedTrainerJson : public ::testing::TestWithParam<MalformedFile> {};

TEST_P(MalformedTrainerJson, IsRefused) {
  const TemporaryFolder folder;
  write_file(folder / "trainer.json", GetParam().content);
  expect_refused(folder / "trainer.json", GetParam(), [&] { read_trainer_state(folder.path()); });
}

INSTANTIATE_TEST_SUITE_P(Text, MalformedTrainerJson, ValuesIn(texts()), mutation);
INSTANTIATE_TEST_SUITE_P(Key, MalformedTrainerJson, ValuesIn(keys()), mutation);
INSTANTIATE_TEST_SUITE_P(Value, MalformedTrainerJson, ValuesIn(values()), mutation);

TEST(ValidTrainerJson, IsRead) {
  const auto unchanged = [](json&) {};
  EXPECT_EQ(parse_trainer_state(sealed(unchanged), "trainer.json").step, 7);
  EXPECT_EQ(parse_trainer_state(to_json(valid_state()), "trainer.json").files.size(), 1U);
}

}  // namespace
}  // namespace polyhead
