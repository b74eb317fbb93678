#include "layers/conversion/latent_conversion.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "layers/conversion/head_tensors.h"
#include "layers/conversion/latent_compression.h"
#include "layers/conversion/latent_rotation.h"

namespace polyhead {
namespace {

Tensor stacked(const std::vector<Tensor>& parts) {
  std::int64_t rows = 0;
  for (const Tensor& part : parts) rows += part.rows();
  Tensor result = Tensor::empty({rows, parts.front().cols()}, DType::kF64);
  std::int64_t begin = 0;
  for (const Tensor& part : parts) {
    result.row_slice(begin, begin + part.rows()).copy_from(part);
    begin += part.rows();
  }
  return result;
}

void scale(Tensor rows, double factor) {
  for (std::int64_t row = 0; row < rows.rows(); ++row) copy_row(rows, row, factor, rows, row);
}

Tensor identity(std::int64_t size) {
  Tensor result = Tensor::zeros({size, size}, DType::kF64);
  for (std::int64_t i = 0; i < size; ++i) result.data<double>()[i * size + i] = 1.0;
  return result;
}

// One after the other for every query head: its group's rows of keys, then of values, from the
// (2 G K, R) of all groups' keys and then values.
Tensor up_projection(const Tensor& keys_and_values, const GroupedHeads& heads) {
  const std::int64_t dim = heads.head_dim;
  Tensor result =
      Tensor::empty({heads.heads * 2 * dim, keys_and_values.cols()}, keys_and_values.dtype());
  for (std::int64_t head = 0; head < heads.heads; ++head) {
    for (const std::int64_t part : {0, 1}) {
      const std::int64_t from = (part * heads.groups + head / heads.heads_per_group()) * dim;
      const std::int64_t to = (2 * head + part) * dim;
      result.row_slice(to, to + dim).copy_from(keys_and_values.row_slice(from, from + dim));
    }
  }
  return result;
}

// The queries that meet [k_nope | shared key], with what scales scores differently now: the softmax
// scale, and the amplitude of a scaled rotation on what does not rotate any more.
Tensor queries(const GroupedLayer& layer, const SharedRotation& rotation, const ModelConfig& before,
               const ModelConfig& after) {
  const GroupedHeads heads = grouped_heads(before);
  const std::int64_t dim = heads.head_dim, rope_dim = *after.qk_pos_emb_head_dim;
  const double factor = layer_attention_config(before, 0).softmax_scale /
                        layer_attention_config(after, 0).softmax_scale;
  const double amplitude = rotary_frequencies(before).amplitude;
  Tensor result = Tensor::empty({heads.heads * (dim + rope_dim), layer.q.cols()}, DType::kF64);
  for (std::int64_t head = 0; head < heads.heads; ++head) {
    const std::int64_t begin = head * (dim + rope_dim);
    for (std::int64_t i = 0; i < dim; ++i) {
      const double rotated = i < heads.rotary_dim ? amplitude * amplitude : 1.0;
      copy_row(layer.q, head * dim + i, factor * rotated, result, begin + i);
    }
    for (std::int64_t i = 0; i < rope_dim; ++i) {
      copy_row(rotation.query_rope, head * rope_dim + i, factor, result, begin + dim + i);
    }
  }
  return result;
}

// By how much to divide keys so that they weigh as much as values.
double balance(const Tensor& keys, const Tensor& values, const InputCovariance& covariance) {
  const double of_keys = squared_norm(keys, covariance.measured);
  const double of_values = squared_norm(values, covariance.measured);
  return of_keys > 0 && of_values > 0 ? std::sqrt(of_keys / of_values) : 1.0;
}

void check_rank(const char* option, std::int64_t rank, std::int64_t largest) {
  require(1 <= rank && rank <= largest,
          "{} {}: must lie in 1 to {}, which would lose nothing but by the latents' norm", option,
          rank, largest);
}

}  // namespace

void require_latent_form(const ModelConfig& config) {
  require(!config.is_latent(),
          "the source has multi-head latent attention already (kv_lora_rank is {}); convert an MHA "
          "or GQA checkpoint",
          config.kv_lora_rank.value_or(0));
  require(config.rotates(),
          "the source does not rotate its keys (position_embedding is not rope); latent attention "
          "carries positions in a rotary key, so convert a checkpoint with rope");
  require(!config.qk_norm,
          "the source normalises each head's queries and keys (qk_norm); that is no linear map of "
          "a latent, so it has no latent form; convert a checkpoint without");
  require(!config.add_bias_linear,
          "the source has biases on all linear layers (add_bias_linear); latent attention has none "
          "on its output; convert a checkpoint without, or with add_qkv_bias alone");
}

ModelConfig compressed_config(const ModelConfig& config, const LatentTarget& target,
                              LatentStage stage) {
  require_latent_form(config);
  const GroupedHeads heads = grouped_heads(config);
  const std::int64_t key_value_rows = 2 * heads.groups * heads.head_dim;
  const std::int64_t query_rows = heads.heads * (heads.head_dim + target.rope_dim);
  const RotaryFold fold = rotary_fold(heads, target.rope_dim);
  check_rank("--kv-lora-rank", target.kv_lora_rank, std::min(key_value_rows, config.hidden_size));
  if (target.q_lora_rank) {
    require(!config.add_qkv_bias,
            "--q-lora-rank {}: the source has biases on its queries (add_qkv_bias), which "
            "compressed ones have no place for; leave it out",
            *target.q_lora_rank);
    check_rank("--q-lora-rank", *target.q_lora_rank, std::min(query_rows, config.hidden_size));
  }
  ModelConfig result = config;
  result.num_query_groups.reset();
  result.kv_channels.reset();
  result.rotary_percent.reset();
  result.softmax_scale.reset();
  result.kv_lora_rank = stage == LatentStage::kRotation ? key_value_rows : target.kv_lora_rank;
  if (stage != LatentStage::kRotation) result.q_lora_rank = target.q_lora_rank;
  result.qk_head_dim = result.v_head_dim = heads.head_dim;
  result.qk_pos_emb_head_dim = target.rope_dim;
  result.rotary_segments = fold.segments;
  result.latent_norm = stage == LatentStage::kNorm;
  return result;
}

CompressedLayer compress_to_latent(const GroupedLayer& layer, const ModelConfig& config,
                                   const LatentTarget& target, const Tensor& covariance) {
  const ModelConfig after = compressed_config(config, target, LatentStage::kNorm);
  const GroupedHeads heads = grouped_heads(config);
  const std::int64_t key_rows = heads.groups * heads.head_dim;
  const InputCovariance inputs = damped(covariance);
  const SharedRotation rotation = gather_rotation(layer, heads, covariance, target.rope_dim);

  CompressedLayer result;
  result.kept_rotation = rotation.kept_energy;
  result.rotation.q = queries(layer, rotation, config, after);
  result.rotation.kv_down = stacked({rotation.rest, layer.v, rotation.shared_key});
  result.rotation.kv_up = up_projection(identity(2 * key_rows), heads);

  Tensor keys_and_values = stacked({rotation.rest, layer.v});
  const double key_weight = balance(rotation.rest, layer.v, inputs);
  scale(keys_and_values.row_slice(0, key_rows), 1.0 / key_weight);
  LowRank latent = low_rank(keys_and_values, target.kv_lora_rank, inputs, "keys and values");
  scale(latent.up.row_slice(0, key_rows), key_weight);
  result.kept_keys_and_values = latent.kept_energy;
  std::optional<LowRank> query;
  if (target.q_lora_rank) {
    query = low_rank(result.rotation.q, *target.q_lora_rank, inputs, "queries");
    result.kept_queries = query->kept_energy;
  }

  const auto assembled = [&] {
    LatentLayer stage;
    stage.kv_down = stacked({latent.down, rotation.shared_key});
    stage.kv_up = up_projection(latent.up, heads);
    if (query) {
      stage.q_down = query->down.clone();
      stage.q_up = query->up.clone();
    } else {
      stage.q = result.rotation.q;
    }
    return stage;
  };
  result.rank = assembled();
  standardize_latent(inputs, latent);
  if (query) standardize_latent(inputs, *query);
  result.norm = assembled();
  return result;
}

}  // namespace polyhead
