#include "scripts/model_source.h"

#include <algorithm>

#include "framework/checkpoint/checkpoint_folder.h"
#include "framework/files/folder.h"
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

}  // namespace polyhead
