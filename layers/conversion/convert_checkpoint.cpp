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

// What the tensors of a folder belong to: the model, and a checkpoint's optimizer.
std::vector<std::string> stems_of(const ConversionSource& source) {
  if (!source.trainer) return {kModelStem};
  std::vector<std::string> stems;
  for (const FileRecord& file : source.trainer->files) {
    if (auto stem = stem_of(file.name)) stems.push_back(*std::move(stem));
  }
  return stems;
}

// Where the model's weights are read: the f32 masters of a run in a shorter format, if any.
std::string exact_stem(const ConversionSource& source, const std::string& stem) {
  const std::vector<std::string> stems = stems_of(source);
  const bool masters = std::ranges::find(stems, kMasterStem) != stems.end();
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
ParameterReader open_stem(const ConversionSource& source, const std::string& stem) {
  return ParameterReader({source.folder, stem},
                         stem == kModelStem ? source.layout : TensorLayout());
}

void prepare(const ConversionSource& source, AttentionConversion& conversion) {
  const ParameterReader reader = open_stem(source, exact_stem(source, kModelStem));
  for (const auto& [layer, names] : attention_names(reader, [](const auto&) { return true; })) {
    conversion.prepare(layer, read_layer(reader, layer, names));
  }
}

// What one file, or set of shards, holds after conversion.
class ConvertedTensors {
 public:
  ConvertedTensors(const ConversionSource& source, const std::string& stem,
                   const AttentionConversion* conversion)
      : conversion_(conversion),
        role_(role_of(stem)),
        reader_(open_stem(source, stem)),
        exact_(open_stem(source, exact_stem(source, stem))),
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

std::vector<FileRecord> convert_tensors(const ConversionSource& source, const std::string& stem,
                                        const AttentionConversion* conversion,
                                        const fs::path& folder, const TensorLayout& layout) {
  ConvertedTensors tensors(source, stem, conversion);
  ParameterWriter writer(folder, stem, tensors.infos(),
                         stem == kModelStem ? layout : TensorLayout());
  for (const TensorInfo& info : writer.parameters()) writer.write(tensors.tensor(info));
  return writer.finish();
}

std::string hash_of_file(const fs::path& path) {
  return content_hash(MappedFile(path).bytes());
}

}  // namespace

void convert_checkpoint(const ConversionSource& source, const fs::path& destination,
                        AttentionConversion* conversion, const ConvertedDescription& description) {
  require(!fs::exists(destination), "{} exists already; remove it or choose another --out",
          destination.string());
  if (conversion != nullptr) prepare(source, *conversion);
  if (destination.has_parent_path()) fs::create_directories(destination.parent_path());
  CheckpointTransaction transaction(destination);
  const fs::path& folder = transaction.folder();
  std::vector<FileRecord> files;
  for (const std::string& stem : stems_of(source)) {
    const fs::path subfolder = folder / fs::path(stem).parent_path();
    if (!fs::exists(subfolder)) make_folder(subfolder);
    for (FileRecord& written :
         convert_tensors(source, stem, conversion, folder, description.layout)) {
      files.push_back(std::move(written));
    }
  }
  files.push_back(write_durably(folder, "config.json", description.config_json));
  for (const std::string& name : source.companions) {
    files.push_back(copy_durably(source.folder / name, folder, name));
  }
  if (description.report) {
    files.push_back(write_durably(folder, kConversionReport, description.report(folder)));
  }
  if (!source.trainer) return transaction.commit_model();
  TrainerState result = *source.trainer;
  result.config = description.config;
  result.parent = Parent{fs::absolute(source.folder).lexically_normal().string(), result.step,
                         hash_of_file(source.folder / "trainer.json"), description.method};
  result.files = std::move(files);
  transaction.commit(result);
}

}  // namespace polyhead
