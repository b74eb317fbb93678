#include "scripts/start_banner.h"

#include <omp.h>

#include "framework/run/processors.h"

namespace polyhead {
namespace {

// Entries of the whole model: every one is counted by the one rank that owns it.
std::int64_t parameter_count(const ParameterStore& store, const Communicator& tensor) {
  Tensor count = Tensor::zeros({1}, DType::kF64);
  for (const Segment& segment : store.segments()) {
    const Parameter& parameter = *segment.parameter;
    if (!parameter.owner) continue;
    count.data<double>()[0] += static_cast<double>(valid_part(parameter, parameter.value).numel());
  }
  tensor.all_reduce(count);
  return static_cast<std::int64_t>(count.data<double>()[0]);
}

std::string describe_ranks(const Trainer& trainer) {
  const RankLayout& layout = trainer.layout();
  return fmt::format(
      "{} = {} data-parallel x {} tensor-parallel{}{}", layout.world.size(), layout.data->size(),
      layout.tensor->size(),
      trainer.config().parallel.sequence_parallel ? ", sequence parallel" : "",
      trainer.config().parallel.distributed_optimizer ? ", distributed optimizer" : "");
}

}  // namespace

std::vector<std::string> start_banner(Trainer& trainer, double peak_rate) {
  const TrainConfig& config = trainer.config();
  const TrainingConfig& training = config.training;
  const RankLayout& layout = trainer.layout();
  const ModelConfig& model = config.model;
  const std::int64_t parameters = parameter_count(trainer.store(), *layout.tensor);
  const ParameterStore& store = trainer.store();
  // Gradients and values whole, of the optimizer's two moments and masters this rank's shard.
  const double state_bytes =
      static_cast<double>(store.size()) *
          static_cast<double>(size_of(store.grads().dtype()) + size_of(store.values().dtype())) +
      static_cast<double>(store.shard().size()) *
          static_cast<double>((store.has_masters() ? size_of(store.masters().dtype()) : 0) +
                              2 * size_of(trainer.optimizer().first_moment().dtype()));

  std::vector<std::string> lines = {
      fmt::format("model: {}, {} layers, hidden {}, ffn {}, {} heads, vocabulary {}",
                  attention_variant(model), model.num_layers, model.hidden_size,
                  model.ffn_hidden_size, model.num_attention_heads, *model.vocab_size),
      fmt::format("parameters: {} ({:.2f} M)", parameters, static_cast<double>(parameters) * 1e-6),
      fmt::format(
          "memory per rank: {:.1f} MiB of weights, gradients and moments, without activations",
          state_bytes / (1 << 20)),
      fmt::format("data: {} tokens an epoch, {} sequences of {} a step in micro-batches of {}",
                  trainer.data().token_count(), training.global_batch_size,
                  config.data.sequence_length, training.micro_batch_size),
      fmt::format("ranks: {}", describe_ranks(trainer)),
      fmt::format("computes in {} by {}, peak of all ranks {:.3g} TFLOP/s (square products)",
                  name_of(trainer.compute().dtype), trainer.state().environment.blas,
                  peak_rate * 1e-12)};
  const std::vector<std::string> ranks = layout.world.all_gather_strings(fmt::format(
      "{} threads on processors {} of {}", omp_get_max_threads(), processor_mask(), host_name()));
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    lines.push_back(fmt::format("rank {}: {}", rank, ranks[rank]));
  }
  return lines;
}

}  // namespace polyhead
