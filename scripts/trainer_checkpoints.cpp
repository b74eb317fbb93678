// What a Trainer reads from checkpoints and writes into them.
#include <algorithm>

#include "framework/ops/elementwise.h"
#include "framework/parameters/replica_check.h"
#include "layers/huggingface/config_json.h"
#include "layers/huggingface/tensor_layout.h"
#include "scripts/config_changes.h"
#include "scripts/model_source.h"
#include "scripts/trainer.h"

namespace polyhead {

std::vector<NamedState> Trainer::moments() const {
  return {{"exp_avg", optimizer_.first_moment()}, {"exp_avg_sq", optimizer_.second_moment()}};
}

TrainerState Trainer::load(const std::filesystem::path& checkpoint, std::vector<NamedState> states,
                           Hashes hashes) {
  TrainerState loaded = load_checkpoint(checkpoint, layout_.world, store_, states,
                                        stored_layout(checkpoint, config_.model), hashes);
  inherit_special_tokens(checkpoint);
  optimizer_.set_updates(loaded.updates);
  state_.step = loaded.step;
  state_.tokens = loaded.tokens;
  return loaded;
}

void Trainer::inherit_special_tokens(const std::filesystem::path& folder) {
  run_on_all_ranks(layout_.world, [&] {
    const std::int64_t vocab_size = config_.model.vocab_size.value();
    special_tokens_ = read_special_tokens(folder, vocab_size);
    special_tokens_.eos_token_id = read_end_tokens(folder, vocab_size);
  });
}

SpecialTokens Trainer::saved_special_tokens() const {
  SpecialTokens tokens = special_tokens_;
  std::vector<std::int64_t>& ends = tokens.eos_token_id;
  const std::optional<std::int32_t> eod = data_.eod_id();
  if (eod && std::ranges::find(ends, *eod) == ends.end()) ends.insert(ends.begin(), *eod);
  return tokens;
}

std::vector<std::string> Trainer::resume(const std::filesystem::path& checkpoint, Hashes hashes) {
  const std::string name = checkpoint.string();
  const TrainerState saved = read_trainer_state(checkpoint);
  std::vector<std::string> changes;
  const TrainConfig before = parse_resolved_config(saved.config, name + "/trainer.json");
  for (const ConfigChange& change : require_same_run(before, config_)) {
    changes.push_back(change.describe());
  }
  require(saved.dataset_fingerprint == state_.dataset_fingerprint,
          "data.train: the datasets are not those of {} (fingerprint {}, now {}); put the files "
          "back, or train in another checkpoint.folder",
          name, saved.dataset_fingerprint, state_.dataset_fingerprint);
  require(same_tokenizer(saved.tokenizer_fingerprint, state_.tokenizer_fingerprint),
          "data.tokenizer: not the tokenizer of {} (fingerprint {}, now {}); put it back, or train "
          "in another checkpoint.folder",
          name, saved.tokenizer_fingerprint, state_.tokenizer_fingerprint);
  require(saved.teacher.empty() || state_.teacher.empty() || saved.teacher == state_.teacher,
          "uptrain.distill.from: {} is not the checkpoint that {} learnt from (hash {}, now {}); "
          "put it back, or train in another checkpoint.folder",
          teacher_ ? teacher_->folder().string() : "", name, saved.teacher, state_.teacher);
  const Environment &was = saved.environment, &is = state_.environment;
  const auto compare = [&](const char* what, const auto& old_value, const auto& new_value) {
    if (old_value != new_value) {
      changes.push_back(fmt::format("{}: {} became {}", what, old_value, new_value));
    }
  };
  compare("BLAS", was.blas, is.blas);
  compare("threads per rank", was.threads, is.threads);
  compare("ranks", was.world_size, is.world_size);
  load(checkpoint, moments(), hashes);
  state_.samples = saved.samples;
  state_.parent = saved.parent;
  return changes;
}

void Trainer::start_from(const std::filesystem::path& checkpoint) {
  if (is_plain_model_folder(checkpoint)) {
    inherit_special_tokens(checkpoint);
    run_on_all_ranks(layout_.world, [&] {
      load_parameters(checkpoint, store_, open_model_source(checkpoint).layout);
    });
    return;
  }
  const bool has_moments = std::filesystem::exists(checkpoint / "optimizer");
  const TrainerState source =
      load(checkpoint, has_moments ? moments() : std::vector<NamedState>(), Hashes::kVerify);
  require(same_tokenizer(source.tokenizer_fingerprint, state_.tokenizer_fingerprint),
          "uptrain.source: {} was trained with another tokenizer (fingerprint {}, that of the data "
          "is {}); tokenize the text with the one in that folder",
          checkpoint.string(), source.tokenizer_fingerprint, state_.tokenizer_fingerprint);
  const TrainConfig before =
      parse_resolved_config(source.config, (checkpoint / "trainer.json").string() + ": config");
  const bool counts_on = config_.data.sample_order != SampleOrder::kMegatron &&
                         source.dataset_fingerprint == state_.dataset_fingerprint &&
                         same_samples(before, config_);
  state_.samples = counts_on ? source.samples : 0;
  state_.parent = source.parent;
}

void Trainer::check_replicas() {
  std::vector<NamedState> flats = moments();
  flats.insert(flats.begin(), {"values", store_.values()});
  if (store_.has_masters()) flats.insert(flats.begin(), {"masters", store_.masters()});
  polyhead::check_replicas(layout_.world, store_, flats);
}

std::filesystem::path Trainer::save() {
  state_.updates = optimizer_.updates();
  run_on_all_ranks(layout_.world, [&] {
    for (const Segment& segment : store_.segments()) {
      require(ops::all_finite(segment.parameter->value),
              "step {}: {} holds a number that is not finite and is not saved; the last checkpoint "
              "is kept",
              state_.step, segment.parameter->name);
    }
  });
  const SpecialTokens tokens = saved_special_tokens();
  const std::filesystem::path run = config_.checkpoint.folder;
  const std::filesystem::path saved = save_checkpoint(
      run, layout_.world, *layout_.tensor, store_, moments(),
      {.trainer = state_,
       .config_json = huggingface_config_json(config_.model, config_.data.sequence_length,
                                              store_.values().dtype(), tokens),
       .generation_config_json = generation_config_json(tokens),
       .layout = written_layout(config_.model),
       .tokenizer_files = data_.tokenizer_files()});
  run_on_all_ranks(layout_.world, [&] {
    if (layout_.world.rank() == 0) {
      prune_checkpoints(run, config_.checkpoint.keep_last, config_.checkpoint.keep_every);
    }
  });
  return saved;
}

void Trainer::require_free_space() const {
  run_on_all_ranks(layout_.world, [&] {
    if (layout_.world.rank() != 0) return;
    const CheckpointConfig& checkpoint = config_.checkpoint;
    const auto lying_there = static_cast<std::int64_t>(checkpoint_steps(checkpoint.folder).size());
    // A new one lies beside the last keep_last before the oldest of them goes.
    std::int64_t needed = checkpoint.keep_last + 1 - std::min(checkpoint.keep_last, lying_there);
    if (checkpoint.keep_every > 0) {
      needed += config_.training.train_steps / checkpoint.keep_every -
                state_.step / checkpoint.keep_every;
    }
    polyhead::require_free_space(checkpoint.folder, checkpoint_bytes(store_, moments()), needed);
  });
}

}  // namespace polyhead
