#include "layers/flops.h"

#include <algorithm>

namespace polyhead {
namespace {

std::int64_t attention_parameters(const ModelConfig& c) {
  const std::int64_t hidden = c.hidden_size, heads = c.num_attention_heads;
  if (!c.is_latent()) return hidden * c.head_dim() * (2 * heads + 2 * c.groups());
  const std::int64_t rank = *c.kv_lora_rank;
  const std::int64_t query = heads * c.query_key_dim();
  const std::int64_t query_parameters =
      c.q_lora_rank ? *c.q_lora_rank * (hidden + query) : hidden * query;
  return query_parameters + hidden * (rank + *c.qk_pos_emb_head_dim) +
         rank * heads * (*c.qk_head_dim + c.value_dim()) + heads * c.value_dim() * hidden;
}

// The mean over a sequence of how many keys a query sees.
double mean_visible_keys(std::int64_t length, std::int64_t window) {
  const std::int64_t full = window == 0 ? length : std::min(window, length);
  // The first `full` queries see 1, 2, ..., full keys, the others `full`.
  const double keys = static_cast<double>(full) * static_cast<double>(full + 1) / 2 +
                      static_cast<double>(length - full) * static_cast<double>(full);
  return keys / static_cast<double>(length);
}

}  // namespace

std::int64_t matmul_parameters(const ModelConfig& c) {
  const std::int64_t mlp_matrices = ops::is_gated(c.activation) ? 3 : 2;
  return c.num_layers *
             (attention_parameters(c) + mlp_matrices * c.hidden_size * c.ffn_hidden_size) +
         c.vocab_size.value() * c.hidden_size;
}

double training_flops_per_token(const ModelConfig& c, std::int64_t sequence_length) {
  double flops = 6.0 * static_cast<double>(matmul_parameters(c));
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    flops += 6.0 *
             static_cast<double>(c.num_attention_heads * (c.query_key_dim() + c.value_dim())) *
             mean_visible_keys(sequence_length, layer_attention_config(c, layer).window);
  }
  return flops;
}

}  // namespace polyhead
