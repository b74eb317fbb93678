// Grouped-query attention with rotated heads as latent attention, exactly: no score and no value
// changes.
//
// The latent is what the groups hold, unchanged: their values and the unrotated dimensions of their
// keys, [v_0 .. v_G-1 | k_0 .. k_G-1 without rotation], so that the up-projection only selects. The
// shared rotary key is the groups' rotated dimensions, one segment each with the frequencies of one
// head (rotary_segments); a query is zero in the segments of other groups. The rotation is
// half-split over the whole: pair j of group g lies at rows g * pairs + j and
// (G + g) * pairs + j, in keys and queries alike, which changes no score.
//
// A token's latent and key are 2 G K numbers: a cache as large as the groups'.
#pragma once

#include "layers/conversion/latent_layer.h"
#include "layers/model_config.h"

namespace polyhead {

// The keys of `config` after the embedding: kv_lora_rank G (2 K - rotated), qk_head_dim
// K - rotated, qk_pos_emb_head_dim G rotated, v_head_dim K, rotary_segments G, no latent norm, the
// softmax scale of before. `config` must have passed require_latent_form
// (layers/conversion/latent_conversion.h).
ModelConfig embedded_config(const ModelConfig& config);

LatentLayer embed_in_latent(const GroupedLayer& layer, const GroupedHeads& heads);

}  // namespace polyhead
