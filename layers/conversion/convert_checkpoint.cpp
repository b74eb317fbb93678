#include "layers/conversion/convert_checkpoint.h"

#include <algorithm>
#include <optional>
#include <string_view>

#include "framework/checkpoint/checkpoint_folder.h"
#include "framework/checkpoint/element_conversion.h"
#include "framework/checkpoint/parameter_reader.h"
#include "framework/checkpoint/parameter_writer.h"
#include "framework/files/folder.h"

namespace polyhead {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModelStem = "model";
constexpr const char* kMasterStem = "optimizer/master";
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

// Moments of other parameters say nothing of the pooled ones.
bool holds_moments(std::string_view stem) {
  return stem == "optimizer/exp_avg" || stem == "optimizer/exp_avg_sq";
}

// Where the model's keys and values are read: the f32 masters of a run in a shorter format, if any.
std::string exact_stem(const TrainerState& state, const std::string& stem) {
  const bool masters = std::ranges::any_of(
      state.files, [](const FileRecord& file) { return stem_of(file.name) == kMasterStem; });
  return stem == kModelStem && masters ? kMasterStem : stem;
}

std::vector<FileRecord> convert_tensors(const fs::path& source, const TrainerState& state,
                                        const fs::path& destination, const std::string& stem,
                                        const KeyValuePooling& pooling,
                                        const ConvertedDescription& description) {
  const auto layout_of = [&](const std::string& name) {
    return name == kModelStem ? description.source_layout : TensorLayout();
  };
  const std::string values = exact_stem(state, stem);
  const ParameterReader reader({source, stem}, layout_of(stem));
  const ParameterReader exact({source, values}, layout_of(values));
  std::vector<TensorInfo> infos = reader.tensors();
  for (TensorInfo& info : infos) {
    if (is_key_or_value_projection(info.name)) {
      info.shape = pooled_shape(info.name, info.shape, pooling);
    }
  }
  ParameterWriter writer(destination, stem, infos,
                         stem == kModelStem ? description.layout : TensorLayout());
  for (const TensorInfo& info : writer.parameters()) {
    if (!is_key_or_value_projection(info.name)) {
      writer.write(reader.read(info.name));
    } else if (holds_moments(stem)) {
      writer.write(Tensor::zeros(info.shape, info.dtype));
    } else {
      const Tensor pooled = pool_key_values(info.name, exact.read(info.name), pooling);
      writer.write(converted(pooled, info.dtype));
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
  TrainerState result = state;
  result.config = description.config;
  result.parent = Parent{fs::absolute(source).lexically_normal().string(), state.step,
                         hash_of_file(source / "trainer.json"), description.method};
  result.files.clear();
  const auto record = [&](FileRecord file) { result.files.push_back(std::move(file)); };

  if (destination.has_parent_path()) fs::create_directories(destination.parent_path());
  CheckpointTransaction transaction(destination);
  for (const FileRecord& file : state.files) {
    const fs::path subfolder = transaction.folder() / fs::path(file.name).parent_path();
    if (!fs::exists(subfolder)) make_folder(subfolder);
    if (const auto stem = stem_of(file.name)) {
      for (FileRecord& written :
           convert_tensors(source, state, transaction.folder(), *stem, pooling, description)) {
        record(std::move(written));
      }
    } else if (file.name == "config.json") {
      record(write_durably(transaction.folder(), file.name, description.config_json));
    } else if (!file.name.ends_with(kTensorFile)) {
      record(copy_durably(source / file.name, transaction.folder(), file.name));
    }
  }
  transaction.commit(result);
}

}  // namespace polyhead
