// What may stand in the place of a file: every reader refuses it, and none waits for it.
#include <sys/stat.h>

#include <functional>
#include <tuple>

#include "data/indexed_dataset.h"
#include "framework/checkpoint/safetensors_reader.h"
#include "framework/checkpoint/safetensors_writer.h"
#include "framework/checkpoint/trainer_state.h"
#include "layers/huggingface/special_tokens.h"
#include "scripts/train_config.h"
#include "tests/data/dataset_files.h"
#include "tests/malformed/malformed_file.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

using namespace testing;
using ::testing::Combine;
using ::testing::ValuesIn;

// A reader, and the file that it opens in a folder.
struct Reader {
  std::string name;
  std::string file;
  std::function<void(const fs::path&)> open;
};

std::vector<Reader> readers() {
  const auto open_model = [](const fs::path& folder) { SafetensorsReader(folder, "model"); };
  const auto open_dataset = [](const fs::path& folder) { IndexedDataset{folder / "text"}; };
  return {
      {"Safetensors", "one.safetensors",
       [](const fs::path& folder) { SafetensorsReader(folder, "one"); }},
      {"Index", "model.safetensors.index.json", open_model},
      {"Shard", "model-00002-of-00002.safetensors", open_model},
      {"TrainerJson", "trainer.json", [](const fs::path& folder) { read_trainer_state(folder); }},
      {"GenerationConfig", "generation_config.json",
       [](const fs::path& folder) { read_end_tokens(folder, 131); }},
      {"Idx", "text.idx", open_dataset},
      {"Bin", "text.bin", open_dataset},
      {"Description", "text.json", open_dataset},
      {"Config", "run.yaml",
       [](const fs::path& folder) { load_train_config(folder / "run.yaml", {}, 1); }},
  };
}

struct Impostor {
  std::string name;
  std::string message;
  std::function<void(const fs::path&)> make;
};

std::vector<Impostor> impostors() {
  const auto link_to = [](const char* target) {
    return [target](const fs::path& path) { fs::create_symlink(target, path); };
  };
  return {
      {"Folder", "not a regular file", [](const fs::path& path) { fs::create_directory(path); }},
      {"LinkToAFolder", "not a regular file", link_to(".")},
      {"Device", "not a regular file", link_to("/dev/zero")},
      {"Pipe", "not a regular file",
       [](const fs::path& path) { ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0); }},
      {"LoopOfLinks", "Too many levels of symbolic links",
       [](const fs::path& path) { fs::create_symlink(path, path); }},
  };
}

void write_model(const fs::path& folder, const std::string& stem, std::uint64_t max_shard_bytes) {
  SafetensorsWriter writer(folder, stem, {{"a", DType::kF32, {2}}, {"b", DType::kF32, {2}}},
                           max_shard_bytes);
  for (const TensorInfo& info : writer.tensors()) {
    writer.write(Tensor::zeros(info.shape, info.dtype));
  }
  writer.finish();
}

class InThePlaceOfAFile : public ::testing::TestWithParam<std::tuple<Reader, Impostor>> {};

TEST_P(InThePlaceOfAFile, IsRefused) {
  const auto& [reader, impostor] = GetParam();
  const TemporaryFolder folder;
  write_model(folder.path(), "one", SafetensorsWriter::kDefaultShardBytes);
  write_model(folder.path(), "model", 8);
  write_file(folder / "trainer.json", to_json(TrainerState()));
  write_dataset(folder / "text", {{1, 2, 3}}, 257);
  const fs::path path = folder / reader.file;
  fs::remove(path);
  impostor.make(path);
  const std::string error = error_of([&] { reader.open(folder.path()); });
  EXPECT_THAT(error, ::testing::HasSubstr(path.string()));
  EXPECT_THAT(error, ::testing::HasSubstr(impostor.message));
}

INSTANTIATE_TEST_SUITE_P(Readers, InThePlaceOfAFile,
                         Combine(ValuesIn(readers()), ValuesIn(impostors())), [](const auto& test) {
                           return std::get<0>(test.param).name + std::get<1>(test.param).name;
                         });

}  // namespace
}  // namespace polyhead
