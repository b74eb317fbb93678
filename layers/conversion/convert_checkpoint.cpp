#include "layers/conversion/convert_checkpoint.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

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
constexpr const char* kReportFile = "conversion.json";
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

TensorRole role_of(std::string_view stem) {
  if (stem == "optimizer/exp_avg") return TensorRole::kMomentum;
  if (stem == "optimizer/exp_avg_sq") return TensorRole::kSecondMoments;
  return TensorRole::kWeights;
}

// Where the model's weights are read: the f32 masters of a run in a shorter format, if any.
std::string exact_stem(const TrainerState& state, const std::string& stem) {
  const bool masters = std::ranges::any_of(
      state.files, [](const FileRecord& file) { return stem_of(file.name) == kMasterStem; });
  return stem == kModelStem && masters ? kMasterStem : stem;
}

// The names of each layer's attention tensors that `wanted` picks.
using LayerNames = std::map<std::int64_t, std::vector<std::string>>;
template <class Wanted>
LayerNames attention_names(const ParameterReader& reader, Wanted wanted) {
  LayerNames layers;
  for (const std::string& parameter : reader.names()) {
    const auto parsed = attention_tensor_name(parameter);
    if (parsed && wanted(parsed->name)) layers[parsed->layer].push_back(parsed->name);
  }
  return layers;
}

AttentionTensors read_layer(const ParameterReader& reader, std::int64_t layer,
                            const std::vector<std::string>& names) {
  AttentionTensors tensors;
  for (const std::string& name : names) tensors[name] = reader.read(attention_prefix(layer) + name);
  return tensors;
}

// Optimizer state lies under the parameters' own names.
ParameterReader open_stem(const fs::path& source, const std::string& stem,
                          const ConvertedDescription& description) {
  return ParameterReader({source, stem},
                         stem == kModelStem ? description.source_layout : TensorLayout());
}

void prepare(const fs::path& source, const TrainerState& state,
             const ConvertedDescription& description, AttentionConversion& conversion) {
  const ParameterReader reader = open_stem(source, exact_stem(state, kModelStem), description);
  for (const auto& [layer, names] : attention_names(reader, [](const auto&) { return true; })) {
    conversion.prepare(layer, read_layer(reader, layer, names));
  }
}

// What one file, or set of shards, holds after conversion.
class ConvertedTensors {
 public:
  ConvertedTensors(const fs::path& source, const TrainerState& state, const std::string& stem,
                   const ConvertedDescription& description, const AttentionConversion* conversion)
      : conversion_(conversion),
        role_(role_of(stem)),
        reader_(open_stem(source, stem, description)),
        exact_(open_stem(source, exact_stem(state, stem), description)),
        replaced_(attention_names(reader_, [&](const std::string& name) {
          return conversion != nullptr && conversion->replaces(name);
        })) {
    std::map<std::string, TensorInfo> infos;
    for (const TensorInfo& info : reader_.tensors()) infos[info.name] = info;
    for (const auto& [layer, names] : replaced_) {
      const std::string prefix = attention_prefix(layer);
      const DType dtype = infos.at(prefix + names.front()).dtype;
      AttentionShapes shapes;
      for (const std::string& name : names) {
        shapes[name] = infos.at(prefix + name).shape;
        infos.erase(prefix + name);
      }
      for (const auto& [name, shape] : conversion_->shapes(layer, shapes)) {
        infos[prefix + name] = {prefix + name, dtype, shape};
        made_.insert(prefix + name);
      }
    }
    for (const auto& [_, info] : infos) infos_.push_back(info);
  }

  const std::vector<TensorInfo>& infos() const { return infos_; }

  // In the files' order the tensors of a layer follow each other but for those that a layout packs,
  // so each is converted once or twice.
  Tensor tensor(const TensorInfo& info) {
    if (!made_.contains(info.name)) return reader_.read(info.name);
    const AttentionTensorName parsed = attention_tensor_name(info.name).value();
    if (parsed.layer != layer_) {
      converted_layer_.clear();  // one layer at a time in memory
      converted_layer_ = conversion_->convert(
          parsed.layer, read_layer(exact_, parsed.layer, replaced_.at(parsed.layer)), role_);
      layer_ = parsed.layer;
    }
    return converted(tensor_of(converted_layer_, parsed.layer, parsed.name), info.dtype);
  }

 private:
  const AttentionConversion* conversion_;
  TensorRole role_;
  ParameterReader reader_, exact_;
  LayerNames replaced_;
  std::vector<TensorInfo> infos_;
  std::set<std::string> made_;
  std::int64_t layer_ = -1;
  AttentionTensors converted_layer_;
};

std::vector<FileRecord> convert_tensors(const fs::path& source, const TrainerState& state,
                                        const fs::path& destination, const std::string& stem,
                                        const ConvertedDescription& description,
                                        const AttentionConversion* conversion) {
  ConvertedTensors tensors(source, state, stem, description, conversion);
  ParameterWriter writer(destination, stem, tensors.infos(),
                         stem == kModelStem ? description.layout : TensorLayout());
  for (const TensorInfo& info : writer.parameters()) writer.write(tensors.tensor(info));
  return writer.finish();
}

std::string hash_of_file(const fs::path& path) {
  return content_hash(MappedFile(path).bytes());
}

}  // namespace

void convert_checkpoint(const fs::path& source, const TrainerState& state,
                        const fs::path& destination, AttentionConversion* conversion,
                        const ConvertedDescription& description) {
  require(!fs::exists(destination), "{} exists already; remove it or choose another --out",
          destination.string());
  TrainerState result = state;
  result.config = description.config;
  result.parent = Parent{fs::absolute(source).lexically_normal().string(), state.step,
                         hash_of_file(source / "trainer.json"), description.method};
  result.files.clear();
  const auto record = [&](FileRecord file) { result.files.push_back(std::move(file)); };

  if (conversion != nullptr) prepare(source, state, description, *conversion);
  if (destination.has_parent_path()) fs::create_directories(destination.parent_path());
  CheckpointTransaction transaction(destination);
  for (const FileRecord& file : state.files) {
    const fs::path subfolder = transaction.folder() / fs::path(file.name).parent_path();
    if (!fs::exists(subfolder)) make_folder(subfolder);
    const bool tensors = file.name.ends_with(kTensorFile) || file.name.ends_with(kIndexFile);
    if (file.name == kReportFile) continue;  // of an earlier conversion
    if (file.name == "config.json") {
      record(write_durably(transaction.folder(), file.name, description.config_json));
    } else if (!tensors) {
      record(copy_durably(source / file.name, transaction.folder(), file.name));
    } else if (const auto stem = stem_of(file.name)) {
      for (FileRecord& written :
           convert_tensors(source, state, transaction.folder(), *stem, description, conversion)) {
        record(std::move(written));
      }
    }
  }
  if (description.report) {
    record(
        write_durably(transaction.folder(), kReportFile, description.report(transaction.folder())));
  }
  transaction.commit(result);
}

}  // namespace polyhead
