#include "scripts/memory_estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "framework/buffer.h"
#include "framework/ops/attention_memory.h"
#include "framework/ops/distillation.h"
#include "layers/output_loss.h"
#include "layers/parameter_shapes.h"

namespace polyhead {
namespace {

std::int64_t elements_of(const std::vector<ParameterShape>& shapes) {
  std::int64_t elements = 0;
  for (const ParameterShape& shape : shapes) elements += shape.local.numel();
  return elements;
}

// Every byte that lives as long as the parameters. The gaps between segments are left out.
// `state_ranks` share what the optimizer keeps.
void add_parameters(const std::vector<ParameterShape>& shapes, DType dtype, DType moments,
                    int state_ranks, MemoryEstimate& estimate) {
  const std::int64_t elements = elements_of(shapes);
  const DType wide = accumulation_dtype(dtype);
  estimate.values = tensor_capacity(elements, dtype);
  estimate.gradients = tensor_capacity(elements, wide);
  const std::int64_t shard = (elements + state_ranks - 1) / state_ranks;
  estimate.masters = wide == dtype ? 0 : tensor_capacity(shard, wide);
  estimate.moments = 2 * tensor_capacity(shard, moments);
}

// The tensors of one block and of the layers around the blocks, and when they live. Every method
// gives bytes. Rows are those of a region (N) or those between the regions (M).
class Activations {
 public:
  Activations(const TrainConfig& config, const Compute& compute,
              const std::vector<ParameterShape>& shapes, int ranks, int threads)
      : model_(config.model),
        compute_(compute),
        shapes_(shapes),
        recompute_(config.training.recompute),
        ranks_(ranks),
        threads_(threads),
        sequence_parallel_(config.parallel.sequence_parallel && ranks > 1),
        batch_(config.training.micro_batch_size),
        length_(config.data.sequence_length),
        heads_(model_.num_attention_heads / ranks),
        rows_(batch_ * length_),
        outer_rows_(sequence_parallel_ ? rows_ / ranks : rows_) {}

  std::int64_t positions() const {
    return model_.rotates() ? 2 * tensor_capacity(length_ * rotary_dim(model_) / 2,
                                                  accumulation_dtype(compute_.dtype))
                            : 0;
  }
  std::int64_t inputs(bool documents) const {
    return positions() + (documents ? 3 : 2) * tensor_capacity(rows_, DType::kI32);
  }

  std::int64_t saved_per_layer() const {
    switch (recompute_) {
      case Recompute::kNone:
        return whole_block();
      case Recompute::kSelective:
        return whole_block() - 2 * outer_hidden() - activated() - remakeable_attention();
      case Recompute::kFull:
        break;
    }
    return outer_hidden();
  }

  // Beside what all layers saved: the final norm's input, statistics and output, and one chunk.
  std::int64_t output_loss() const {
    const std::int64_t vocabulary = rows_of({"model.embed_tokens"});
    const std::int64_t tokens =
        std::min(rows_, output_chunk_tokens(rows_, vocabulary, compute_.dtype, compute_.device));
    const std::int64_t logits = tensor_capacity(tokens * vocabulary, compute_.dtype);
    const std::int64_t exchanged = wide(tokens, 3) + wide(ranks_ * tokens, 3);
    return 2 * outer_hidden() + norm_statistics() + crossing_gradient() + logits +
           2 * wide(tokens, 1) + std::max(exchanged, model_.final_softcap ? logits : 0);
  }

  // The same beside a teacher: its hidden states, a chunk of its logits, and what the op of both
  // exchanges.
  std::int64_t output_loss(const Activations& teacher) const {
    constexpr std::int64_t kExchanged = ops::kDistillationStatistics;
    const std::int64_t vocabulary = rows_of({"model.embed_tokens"});
    const std::int64_t tokens =
        std::min(rows_, output_chunk_tokens(rows_, vocabulary, compute_.dtype, compute_.device));
    const std::int64_t logits = tensor_capacity(tokens * vocabulary, compute_.dtype);
    return 2 * outer_hidden() + norm_statistics() + crossing_gradient() + teacher.outer_hidden() +
           teacher.gathered_hidden() + (model_.final_softcap ? 3 : 2) * logits +
           wide(tokens, kExchanged) + wide(ranks_ * tokens, kExchanged) + 2 * wide(tokens, 1) +
           wide(tokens, 3);
  }
  // Of a model that keeps one block's activations at a time, and what enters and leaves the block:
  // the stream's state, and its branch where the product that makes it cannot add it at once.
  std::int64_t inference() const {
    const bool branches = ranks_ > 1 || model_.post_norms || model_.add_bias_linear;
    return whole_block() + (branches ? 3 : 2) * outer_hidden();
  }

  // Of the last layer's backward and those before it: the most beside what all layers saved.
  std::int64_t mlp_backward() const {
    const std::int64_t output_gradient = model_.post_norms ? outer_hidden() : 0;
    const std::int64_t down = activated() + gathered_hidden();
    const std::int64_t up = crossing_gradient();  // the activation itself is gone
    const std::int64_t not_yet_remade =
        recompute_ == Recompute::kSelective ? remakeable_attention() : 0;
    return around_block() - saved_per_layer() + whole_block() - not_yet_remade + output_gradient +
           std::max(down, up);
  }
  std::int64_t attention_backward() const {
    std::int64_t most = 0;
    for (std::int64_t layer = 0; layer < model_.num_layers; ++layer) {
      const std::int64_t gone = (model_.num_layers - 1 - layer) * saved_per_layer();
      most = std::max(most, attention_gradients(layer) - gone);
    }
    const std::int64_t gradients = outer_hidden() + (model_.post_norms ? 2 * outer_hidden() : 0);
    return around_block() - saved_per_layer() + whole_block() - activated() + gradients + most;
  }

 private:
  std::int64_t narrow(std::int64_t rows, std::int64_t columns) const {
    return tensor_capacity(rows * columns, compute_.dtype);
  }
  std::int64_t wide(std::int64_t rows, std::int64_t columns) const {
    return tensor_capacity(rows * columns, accumulation_dtype(compute_.dtype));
  }
  // (N, D), (M, D), and the copy that entering a region makes.
  std::int64_t inner_hidden() const { return narrow(rows_, model_.hidden_size); }
  std::int64_t outer_hidden() const { return narrow(outer_rows_, model_.hidden_size); }
  std::int64_t gathered_hidden() const { return sequence_parallel_ ? inner_hidden() : 0; }
  // What entering left, the gradient of it, and where that leaves to meanwhile.
  std::int64_t crossing_gradient() const {
    return gathered_hidden() + inner_hidden() + (sequence_parallel_ ? outer_hidden() : 0);
  }
  std::int64_t norm_statistics() const {
    return wide(outer_rows_, model_.normalization == Normalization::kLayerNorm ? 2 : 1);
  }

  // This rank's share of the first layer's weights of these names, or of the model's.
  std::int64_t dimension(std::initializer_list<const char*> names, int which) const {
    std::int64_t sum = 0;
    for (const ParameterShape& shape : shapes_) {
      if (shape.name.starts_with("model.layers.") && !shape.name.starts_with("model.layers.0.")) {
        continue;
      }
      for (const char* name : names) {
        if (shape.name.ends_with(fmt::format("{}.weight", name))) sum += shape.local[which];
      }
    }
    return sum;
  }
  std::int64_t rows_of(std::initializer_list<const char*> names) const {
    return dimension(names, 0);
  }
  std::int64_t columns_of(const char* name) const { return dimension({name}, 1); }

  std::int64_t activated() const { return narrow(rows_, columns_of(".down_proj")); }
  std::int64_t attention_output() const { return narrow(rows_, columns_of(".o_proj")); }
  std::int64_t log_sums() const { return wide(batch_ * heads_, length_); }
  std::int64_t packed_heads() const {
    return narrow(rows_, rows_of({".q_proj", ".k_proj", ".v_proj"}));
  }
  std::int64_t latent_columns() const { return rows_of({".q_a_proj", ".kv_a_proj_with_mqa"}); }
  std::int64_t latent_queries() const { return narrow(rows_, rows_of({".q_b_proj", ".q_proj"})); }
  std::int64_t latent_keys() const { return narrow(rows_, heads_ * model_.query_key_dim()); }
  std::int64_t latent_keys_and_values() const { return narrow(rows_, rows_of({".kv_b_proj"})); }

  std::int64_t remakeable_attention() const {
    if (model_.is_latent()) return latent_keys() + latent_keys_and_values();
    return model_.qk_norm ? narrow(rows_, rows_of({".q_proj", ".k_proj"})) : 0;
  }
  std::int64_t attention() const {
    const std::int64_t always = attention_output() + log_sums();
    if (!model_.is_latent()) {
      const std::int64_t normalised =
          model_.qk_norm ? rows_of({".q_proj", ".k_proj"}) / model_.head_dim() : 0;
      return always + packed_heads() + normalised * wide(rows_, 1) + remakeable_attention();
    }
    // What the norms read, and their statistics.
    const std::int64_t norms = model_.normalizes_latents()
                                   ? narrow(outer_rows_, latent_columns()) +
                                         (model_.q_lora_rank ? 2 : 1) * wide(outer_rows_, 1)
                                   : 0;
    return always + norms + narrow(rows_, latent_columns()) + latent_queries() +
           remakeable_attention();
  }
  // Everything a block saves before it drops what recomputation makes again.
  std::int64_t whole_block() const {
    return (model_.post_norms ? 6 : 4) * outer_hidden() +
           (model_.post_norms ? 4 : 2) * norm_statistics() + attention() +
           narrow(rows_, rows_of({".gate_proj", ".up_proj"})) + activated();
  }

  // The final norm's output and its gradient live on through the backward, beside the gradient
  // that the block receives.
  std::int64_t around_block() const { return 3 * outer_hidden(); }

  // What the attention's backward makes: at the op itself, or in the projections behind it.
  std::int64_t attention_gradients(std::int64_t layer) const {
    ops::AttentionSpec spec;
    spec.window = layer_attention_config(model_, layer).window;
    const std::int64_t groups =
        model_.is_latent() ? heads_ : rows_of({".k_proj"}) / model_.head_dim();
    const std::int64_t working = ops::attention_backward_bytes(
        {batch_, length_, heads_, groups, model_.query_key_dim(), model_.value_dim()}, spec,
        compute_.dtype, compute_.device, threads_);
    const std::int64_t output = attention_output();
    if (!model_.is_latent()) {
      return output + packed_heads() + std::max(working, crossing_gradient() - output - log_sums());
    }
    const std::int64_t latents = narrow(rows_, latent_columns());
    const std::int64_t left = sequence_parallel_ ? narrow(outer_rows_, latent_columns()) : 0;
    const std::int64_t through_latents = latents + left + outer_hidden();
    const std::int64_t through_queries =
        model_.q_lora_rank ? 0 : latents + outer_hidden() + crossing_gradient();
    return output + latent_queries() + latent_keys() + latent_keys_and_values() +
           std::max({working, through_latents, through_queries});
  }

  const ModelConfig& model_;
  Compute compute_;
  const std::vector<ParameterShape>& shapes_;
  Recompute recompute_;
  int ranks_, threads_;
  bool sequence_parallel_;
  std::int64_t batch_, length_, heads_, rows_, outer_rows_;
};

}  // namespace

MemoryEstimate estimate_memory(const TrainConfig& config, const Compute& compute,
                               int tensor_parallel_size, int data_parallel_size, int threads,
                               const ModelConfig* teacher) {
  const std::vector<ParameterShape> shapes = parameter_shapes(config.model, tensor_parallel_size);
  const Activations activations(config, compute, shapes, tensor_parallel_size, threads);
  MemoryEstimate estimate;
  add_parameters(shapes, compute.dtype, moments_dtype(config.optimizer, compute.dtype),
                 config.parallel.distributed_optimizer ? data_parallel_size : 1, estimate);
  estimate.inputs = activations.inputs(!config.data.attend_across_documents);
  estimate.saved_per_layer = activations.saved_per_layer();
  estimate.layers = config.model.num_layers;
  const auto consider = [&](std::int64_t bytes, const char* reason) {
    if (bytes <= estimate.transient) return;
    estimate.transient = bytes;
    estimate.transient_reason = reason;
  };
  if (teacher) {
    TrainConfig inference = config;
    inference.model = *teacher;
    const std::vector<ParameterShape> known = parameter_shapes(*teacher, tensor_parallel_size);
    const Activations of_teacher(inference, compute, known, tensor_parallel_size, threads);
    estimate.teacher = tensor_capacity(elements_of(known), compute.dtype);
    estimate.inputs += of_teacher.positions();
    consider(activations.output_loss(of_teacher), "the output loss");
    // It runs while nothing is saved for backward yet.
    consider(of_teacher.inference() - estimate.saved(), "the teacher's forward");
  } else {
    consider(activations.output_loss(), "the output loss");
  }
  consider(activations.mlp_backward(), "the MLP's backward");
  consider(activations.attention_backward(), "the attention's backward");
  return estimate;
}

std::string memory_table(const MemoryEstimate& estimate, const Compute& compute,
                         int tensor_parallel_size) {
  std::string table;
  const auto add = [&](const std::string& name, std::int64_t bytes) {
    table += fmt::format("{:<58} {:>12.1f}\n", name, static_cast<double>(bytes) / (1 << 20));
  };
  table += fmt::format(
      "{:<58} {:>12}\n",
      fmt::format("memory of a training step on {} in {}, on 1 of {} ranks",
                  name_of(compute.device), name_of(compute.dtype), tensor_parallel_size),
      "MiB");
  add("values", estimate.values);
  add("gradients", estimate.gradients);
  add("masters", estimate.masters);
  add("moments", estimate.moments);
  if (estimate.teacher > 0) add("values of the teacher", estimate.teacher);
  add("tokens and tables of positions", estimate.inputs);
  add(fmt::format("saved for backward, {} layers of {:.1f} MiB", estimate.layers,
                  static_cast<double>(estimate.saved_per_layer) / (1 << 20)),
      estimate.saved());
  add("at the peak, in " + estimate.transient_reason, estimate.transient);
  add("total", estimate.total());
  return table;
}

}  // namespace polyhead
