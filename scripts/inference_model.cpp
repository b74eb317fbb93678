#include "scripts/inference_model.h"

#include <limits>

#include "framework/error.h"
#include "framework/ops/matmul.h"

namespace polyhead {
namespace {

int checked_ranks(const ModelSource& source, const InferenceOptions& options,
                  const Communicator& world) {
  const int ranks = options.tensor_parallel_size;
  require(ranks >= 1 && world.size() % ranks == 0, "--tp {}: must divide the number of ranks ({})",
          ranks, world.size());
  require(model_rule_violations(source.model, ranks).empty(),
          "--tp {}: {} cannot be split over so many ranks; use a smaller number", ranks,
          source.folder.string());
  return ranks;
}

std::int64_t checked_context(const ModelSource& source, std::int64_t context) {
  const std::int64_t most_positions = source.model.position_embedding == PositionEmbedding::kLearned
                                          ? *source.model.max_position_embeddings
                                          : std::numeric_limits<std::int32_t>::max();
  require(1 <= context && context <= most_positions,
          "--context {}: must lie between 1 and the {} positions that {} has", context,
          most_positions, source.folder.string());
  return context;
}

Compute connected_compute(const InferenceOptions& options, const Communicator& world) {
  const Compute compute = choose_compute(options.device, options.precision, "--device");
  if (compute.device != Device::kCpu) world.connect_devices();
  // The same result in every run is worth more than the fastest products.
  ops::set_matmul_measuring(compute.device, false);
  return compute;
}

}  // namespace

InferenceModel::InferenceModel(const ModelSource& source, std::int64_t max_sequence_length,
                               const InferenceOptions& options, const Communicator& world)
    : compute_(connected_compute(options, world)),
      layout_(world, checked_ranks(source, options, world)),
      parallel_(*layout_.tensor, /*sequence_parallel=*/false),
      model_(source.model, checked_context(source, max_sequence_length), parallel_, compute_.dtype,
             Recompute::kNone, compute_.device),
      store_(ParameterStore::of_values(model_.parameters(), compute_.dtype, compute_.device)) {
  load_weights(source, world, store_);
}

}  // namespace polyhead
