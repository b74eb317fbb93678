#include "layers/attention.h"

#include "layers/grouped_query_attention.h"
#include "layers/latent_attention.h"

namespace polyhead {
ops::AttentionSpec attention_spec(const ModelConfig& config, std::int64_t layer,
                                  const TensorParallel& parallel, DType dtype, Device device) {
  const LayerAttentionConfig layer_config = layer_attention_config(config, layer);
  ops::AttentionSpec spec;
  spec.scale = layer_config.softmax_scale;
  spec.window = layer_config.window;
  spec.softcap = config.attention_softcap.value_or(0.0);
  if (config.position_embedding == PositionEmbedding::kAlibi) {
    const auto [begin, end] =
        even_share(config.num_attention_heads, parallel.rank(), parallel.size());
    const Tensor slopes = ops::alibi_slopes(config.num_attention_heads, accumulation_dtype(dtype));
    spec.alibi_slopes = slopes.row_slice(begin, end).to(device);
  }
  return spec;
}

std::unique_ptr<Attention> make_attention(const std::string& prefix, const ModelConfig& config,
                                          std::int64_t layer, TensorParallel& parallel, DType dtype,
                                          Device device) {
  const ops::AttentionSpec spec = attention_spec(config, layer, parallel, dtype, device);
  if (config.is_latent()) {
    return std::make_unique<LatentAttention>(prefix, config, spec, parallel);
  }
  return std::make_unique<GroupedQueryAttention>(prefix, config, spec, parallel);
}

}  // namespace polyhead
