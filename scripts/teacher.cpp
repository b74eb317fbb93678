#include "scripts/teacher.h"

#include "data/training_data.h"
#include "framework/checkpoint/checkpoint_folder.h"
#include "framework/error.h"
#include "scripts/rank_0.h"

namespace polyhead {
namespace {

constexpr const char* kKey = "uptrain.distill.from";

// The latest checkpoint of a run may change meanwhile: all ranks take the one that rank 0 found.
ModelSource open_source(const std::string& from, const Communicator& world) {
  const std::string folder = told_by_rank_0(world, [&] {
    try {
      return is_plain_model_folder(from) ? from : resolve_checkpoint(from).string();
    } catch (const Error& error) {
      fail("{}: {}", kKey, error.what());
    }
  });
  ModelSource source;
  run_on_all_ranks(world, [&] { source = open_model_source(folder); });
  return source;
}

// A teacher of other tokens, or one that these ranks cannot run, is refused.
ModelSource checked(ModelSource source, const TrainConfig& config,
                    const std::string& tokenizer_fingerprint, int ranks) {
  const std::string folder = source.folder.string();
  require(same_tokenizer(source.tokenizer_fingerprint, tokenizer_fingerprint),
          "{}: {} was trained with another tokenizer (fingerprint {}, that of the data is {}); "
          "name a checkpoint that was trained with the tokenizer of the data",
          kKey, folder, source.tokenizer_fingerprint, tokenizer_fingerprint);
  const ModelConfig& model = source.model;
  require(model.vocab_size == config.model.vocab_size,
          "{}: {} has a vocabulary of {} tokens, the model that is trained one of {}; name a "
          "checkpoint of the same vocabulary",
          kKey, folder, model.vocab_size.value_or(0), config.model.vocab_size.value_or(0));
  const std::int64_t length = config.data.sequence_length;
  require(model.position_embedding != PositionEmbedding::kLearned ||
              length <= model.max_position_embeddings.value_or(0),
          "{}: {} has {} positions, fewer than data.sequence_length ({}); shorten the sequences, "
          "or name another checkpoint",
          kKey, folder, model.max_position_embeddings.value_or(0), length);
  const std::vector<RuleViolation> violations = model_rule_violations(model, ranks);
  if (!violations.empty()) {
    fail(
        "{}: {} cannot be split over parallel.tensor_model_parallel_size ({}) ranks: {}: {}; use a "
        "smaller size, or name another checkpoint",
        kKey, folder, ranks, violations.front().key, violations.front().message);
  }
  return source;
}

}  // namespace

Teacher::Teacher(const TrainConfig& config, const std::string& tokenizer_fingerprint,
                 const Compute& compute, const Communicator& world, TensorParallel& parallel)
    : distill_(*config.distillation()),
      source_(checked(open_source(distill_.from, world), config, tokenizer_fingerprint,
                      parallel.size())),
      hash_(told_by_rank_0(world, [&] { return content_hash(source_); })),
      model_(source_.model, config.data.sequence_length, parallel, compute.dtype, Recompute::kNone,
             compute.device),
      store_(ParameterStore::of_values(model_.parameters(), compute.dtype, compute.device)) {
  load_weights(source_, world, store_);
}

}  // namespace polyhead
