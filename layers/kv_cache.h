// What a decoder must remember of each token: the memory that grouped, multi-query and latent
// attention save.
//
//   MHA, GQA, MQA   2 G K            per token and layer; on a rank max(G / P, 1) groups
//   MLA             R + K_r          the latent and the rotary key; not divided by P
//   MLA, expanded   H (K + V)        a cache of full keys and values; on a rank H / P heads
//   with a window   of the last W tokens only
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "layers/model_config.h"

namespace polyhead {

// Elements that one layer keeps of one token on one of the ranks.
std::int64_t kv_cache_elements(const ModelConfig& config, std::int64_t tensor_parallel_size);
std::int64_t expanded_kv_cache_elements(const ModelConfig& config,
                                        std::int64_t tensor_parallel_size);

// Of one sequence of `context` tokens, all layers, on one of the ranks.
std::int64_t kv_cache_bytes(const ModelConfig& config, std::int64_t context,
                            std::int64_t tensor_parallel_size, std::int64_t bytes_per_element);

// All layers, one token, before any window is full.
std::int64_t kv_cache_bytes_per_token(const ModelConfig& config, std::int64_t tensor_parallel_size,
                                      std::int64_t bytes_per_element);

// The same model under another attention.
struct AttentionAlternative {
  std::string name;  // "GQA, 8 groups"
  ModelConfig config;
};

// MHA, GQA with 8, 4 and 2 groups where they divide the heads, MQA, MLA (the model's latent, or
// DeepSeek-V2's 512 + 64), and the model's attention with a window (its own, or 4096 tokens).
std::vector<AttentionAlternative> attention_alternatives(const ModelConfig& config);

}  // namespace polyhead
