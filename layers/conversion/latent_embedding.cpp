#include "layers/conversion/latent_embedding.h"

namespace polyhead {

ModelConfig embedded_config(const ModelConfig& config) {
  const GroupedHeads heads = grouped_heads(config);
  const std::int64_t unrotated = heads.head_dim - heads.rotary_dim;
  ModelConfig result = config;
  result.num_query_groups.reset();
  result.kv_channels.reset();
  result.rotary_percent.reset();
  result.kv_lora_rank = heads.groups * (heads.head_dim + unrotated);
  result.qk_head_dim = unrotated;
  result.qk_pos_emb_head_dim = heads.groups * heads.rotary_dim;
  result.v_head_dim = heads.head_dim;
  result.rotary_segments = heads.groups;
  result.latent_norm = false;
  result.softmax_scale = layer_attention_config(config, 0).softmax_scale;
  return result;
}

LatentLayer embed_in_latent(const GroupedLayer& layer, const GroupedHeads& heads) {
  const std::int64_t dim = heads.head_dim, rotary = heads.rotary_dim, pairs = heads.pairs();
  const std::int64_t unrotated = dim - rotary, groups = heads.groups;
  const std::int64_t rank = groups * (dim + unrotated), query_dim = unrotated + groups * rotary;
  // Where dimension i of a group's rotated part lies in the shared key.
  const auto in_key = [&](std::int64_t group, std::int64_t i) {
    return i < pairs ? group * pairs + i : (groups + group - 1) * pairs + i;
  };

  LatentLayer result;
  result.kv_down = Tensor::empty_like(layer.k, {rank + groups * rotary, layer.k.cols()});
  for (std::int64_t group = 0; group < groups; ++group) {
    const std::int64_t first = group * dim;
    for (std::int64_t i = 0; i < dim; ++i) {
      copy_row(layer.v, first + i, 1.0, result.kv_down, first + i);
      const std::int64_t key_row =
          i < rotary ? rank + in_key(group, i) : groups * dim + group * unrotated + i - rotary;
      copy_row(layer.k, first + i, 1.0, result.kv_down, key_row);
    }
  }

  result.q = Tensor::zeros({heads.heads * query_dim, layer.q.cols()}, DType::kF64);
  result.kv_up = Tensor::zeros({heads.heads * (unrotated + dim), rank}, DType::kF64);
  for (std::int64_t head = 0; head < heads.heads; ++head) {
    const std::int64_t group = head / heads.heads_per_group();
    for (std::int64_t i = 0; i < dim; ++i) {
      const std::int64_t query_row = i < rotary ? unrotated + in_key(group, i) : i - rotary;
      copy_row(layer.q, head * dim + i, 1.0, result.q, head * query_dim + query_row);
    }
    const auto select = [&](std::int64_t row, std::int64_t latent) {
      result.kv_up.data<double>()[(head * (unrotated + dim) + row) * rank + latent] = 1.0;
    };
    for (std::int64_t i = 0; i < unrotated; ++i) {
      select(i, groups * dim + group * unrotated + i);
    }
    for (std::int64_t i = 0; i < dim; ++i) select(unrotated + i, group * dim + i);
  }
  return result;
}

}  // namespace polyhead
