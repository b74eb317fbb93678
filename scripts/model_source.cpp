#include "scripts/model_source.h"

#include "framework/checkpoint/checkpoint_folder.h"
#include "scripts/train_config.h"

namespace polyhead {

ModelSource open_model_source(const std::filesystem::path& path) {
  ModelSource source;
  source.folder = resolve_checkpoint(path);
  const TrainerState state = read_trainer_state(source.folder);
  const TrainConfig config =
      parse_resolved_config(state.config, (source.folder / "trainer.json").string() + ": config");
  source.model = config.model;
  source.sequence_length = config.data.sequence_length;
  source.step = state.step;
  source.tokenizer_fingerprint = state.tokenizer_fingerprint;
  return source;
}

}  // namespace polyhead
