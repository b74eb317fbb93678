#include "scripts/model_source.h"

#include <algorithm>
#include <span>

#include "framework/checkpoint/checkpoint.h"
#include "framework/files/content_hash.h"
#include "framework/files/folder.h"
#include "framework/files/mapped_file.h"
#include "layers/huggingface/config_reader.h"
#include "layers/huggingface/tensor_layout.h"
#include "scripts/train_config.h"

namespace polyhead {
namespace {

ModelSource open_plain_folder(const std::filesystem::path& folder) {
  constexpr std::int64_t kLongestDefault = 4096;
  HuggingFaceModel read = read_huggingface_model(folder);
  ModelSource source;
  source.folder = folder;
  source.model = std::move(read.config);
  source.layout = std::move(read.layout);
  source.dropout = std::move(read.dropout);
  source.sequence_length =
      std::min(source.model.max_position_embeddings.value_or(kLongestDefault), kLongestDefault);
  return source;
}

}  // namespace

bool is_plain_model_folder(const std::filesystem::path& path) {
  return file_exists(path / "config.json") && !file_exists(path / "trainer.json");
}

ModelSource open_model_source(const std::filesystem::path& path) {
  if (is_plain_model_folder(path)) return open_plain_folder(path);
  ModelSource source;
  source.folder = resolve_checkpoint(path);
  source.trainer = read_trainer_state(source.folder);
  const TrainConfig config = parse_resolved_config(
      source.trainer->config, (source.folder / "trainer.json").string() + ": config");
  source.model = config.model;
  source.layout = stored_layout(source.folder, source.model);
  source.sequence_length = config.data.sequence_length;
  source.step = source.trainer->step;
  source.tokenizer_fingerprint = source.trainer->tokenizer_fingerprint;
  return source;
}

DType stored_dtype(const ModelSource& source) {
  const std::vector<TensorInfo> tensors =
      ParameterReader({source.folder, "model"}, source.layout).tensors();
  require(!tensors.empty(), "{}: the model has no tensors", source.folder.string());
  return std::ranges::max_element(tensors, {},
                                  [](const TensorInfo& info) { return info.shape.numel(); })
      ->dtype;
}

std::string content_hash(const ModelSource& source) {
  const auto hash_of = [&](const std::string& name) {
    return content_hash(MappedFile(source.folder / name).bytes());
  };
  if (source.trainer) return hash_of("trainer.json");
  std::string hashes;
  for (const std::string& name : list_folder(source.folder)) {
    if (name == "config.json" || name.ends_with(".safetensors")) {
      hashes += name + " " + hash_of(name) + "\n";
    }
  }
  return content_hash(std::as_bytes(std::span(hashes)));
}

void load_weights(const ModelSource& source, const Communicator& world, ParameterStore& store) {
  if (source.trainer) {
    load_checkpoint(source.folder, world, store, {}, source.layout);
  } else {
    run_on_all_ranks(world, [&] { load_parameters(source.folder, store, source.layout); });
  }
}

}  // namespace polyhead
