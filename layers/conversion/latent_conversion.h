// From multi-head or grouped-query to multi-head latent attention (DeepSeek-V2, 2024), exactly or
// with fewer numbers per token, as in TransMLA (Meng et al. 2025): algebra on one layer at a time.
#pragma once

#include <optional>

#include "layers/conversion/latent_layer.h"

namespace polyhead {

// Throws Error, naming the key, the reason and a way out, where the attention of `config` has no
// form as latent attention: it is latent already, does not rotate its keys, normalises its heads,
// or has biases on all linear layers. Windows, soft-caps, scaled rotations and biases on q, k and v
// remain what they were.
void require_latent_form(const ModelConfig& config);

struct LatentTarget {
  std::int64_t kv_lora_rank = 0;  // R
  std::int64_t rope_dim = 0;      // K_r: as rotary_fold allows (latent_rotation.h)
  std::optional<std::int64_t> q_lora_rank = std::nullopt;  // R_q; absent: queries stay whole
};

// What is done to a layer one after the other; each is a model that runs.
enum class LatentStage {
  kRotation,  // one shared rotary key; the rest of the keys without rotation, uncompressed
  kRank,      // keys and values (and queries) of low rank
  kNorm,      // RMSNorm on the latents: the result
};

// `config` after a stage. The result has qk_head_dim = v_head_dim = the head dimension of before
// and the softmax scale that its dimensions imply, so that transformers' DeepseekV3 computes it
// unless there are windows, soft-caps, biases or several segments. Throws Error where a rank or the
// rotary dimension does not fit.
ModelConfig compressed_config(const ModelConfig& config, const LatentTarget& target,
                              LatentStage stage);

struct CompressedLayer {
  LatentLayer rotation, rank, norm;  // after each stage
  // Shares of E[|y|^2] that were kept: of what the keys' rotated dimensions, keys and values, and
  // queries compute.
  double kept_rotation = 1.0, kept_keys_and_values = 1.0, kept_queries = 1.0;
};

// covariance (D, D): E[x x^T] of the attention's input x, with a 1 behind it where q, k and v have
// biases; scaled keys weigh as much as values in what is compressed. Norms on latents have weight
// one. Two decompositions of (2 G K, D), one Cholesky of D; with R_q one of (H (K + K_r), D).
CompressedLayer compress_to_latent(const GroupedLayer& layer, const ModelConfig& config,
                                   const LatentTarget& target, const Tensor& covariance);

}  // namespace polyhead
