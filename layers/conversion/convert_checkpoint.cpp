#include "layers/conversion/convert_checkpoint.h"

#include <optional>
#include <string_view>

#include "framework/checkpoint/checkpoint_folder.h"
#include "framework/checkpoint/safetensors_reader.h"
#include "framework/checkpoint/safetensors_writer.h"
#include "framework/files/folder.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kTensorFile = ".safetensors";
constexpr std::string_view kIndexFile = ".safetensors.index.json";

// "optimizer/exp_avg" for the file, or the index of the shards, that stands for one set of tensors.
std::optional<std::string> stem_of(std::string_view name) {
  if (name.ends_with(kIndexFile)) {
    return std::string(name.substr(0, name.size() - kIndexFile.size()));
  }
  const bool shard = name.find("-of-") != std::string_view::npos;
  if (!name.ends_with(kTensorFile) || shard) return std::nullopt;
  return std::string(name.substr(0, name.size() - kTensorFile.size()));
}

std::vector<FileRecord> convert_tensors(const fs::path& source, const fs::path& destination,
                                        const std::string& stem, const KeyValuePooling& pooling) {
  const SafetensorsReader reader(source, stem);
  std::vector<TensorInfo> infos = reader.tensors();
  for (TensorInfo& info : infos) {
    if (is_key_or_value_projection(info.name)) {
      info.shape = pooled_shape(info.name, info.shape, pooling);
    }
  }
  const bool moments = stem != "model";
  SafetensorsWriter writer(destination, stem, infos);
  for (const TensorInfo& info : writer.tensors()) {
    if (!is_key_or_value_projection(info.name)) {
      writer.write(reader.read(info.name));
    } else if (moments) {
      writer.write(Tensor::zeros(info.shape, info.dtype));
    } else {
      writer.write(pool_key_values(info.name, reader.read(info.name), pooling));
    }
  }
  return writer.finish();
}

std::string hash_of_file(const fs::path& path) {
  return content_hash(MappedFile(path).bytes());
}

}  // namespace

void convert_checkpoint(const fs::path& source, const TrainerState& state,
                        const fs::path& destination, const KeyValuePooling& pooling,
                        const ConvertedDescription& description) {
  require(!fs::exists(destination), "{} exists already; remove it or choose another --out",
          destination.string());
  TrainerState converted = state;
  converted.config = description.config;
  converted.parent = Parent{fs::absolute(source).lexically_normal().string(), state.step,
                            hash_of_file(source / "trainer.json"), description.method};
  converted.files.clear();
  const auto record = [&](FileRecord file) { converted.files.push_back(std::move(file)); };

  if (destination.has_parent_path()) fs::create_directories(destination.parent_path());
  CheckpointTransaction transaction(destination);
  for (const FileRecord& file : state.files) {
    const fs::path subfolder = transaction.folder() / fs::path(file.name).parent_path();
    if (!fs::exists(subfolder)) make_folder(subfolder);
    if (const auto stem = stem_of(file.name)) {
      for (FileRecord& written : convert_tensors(source, transaction.folder(), *stem, pooling)) {
        record(std::move(written));
      }
    } else if (file.name == "config.json") {
      record(write_durably(transaction.folder(), file.name, description.config_json));
    } else if (!file.name.ends_with(kTensorFile)) {
      record(copy_durably(source / file.name, transaction.folder(), file.name));
    }
  }
  transaction.commit(converted);
}

}  // namespace polyhead
