// What conversions to latent attention read and write: the projections of one layer, as f64
// matrices without names.
//
// A projection with a bias is a matrix of D + 1 columns, the last of which is the bias: then its
// input is [x | 1], and all algebra on rows treats the bias alike. D stands for either below.
#pragma once

#include <cstdint>

#include "framework/tensor.h"
#include "layers/model_config.h"

namespace polyhead {

// Of grouped-query attention; MHA has as many groups as heads.
struct GroupedHeads {
  std::int64_t heads = 0;       // H
  std::int64_t groups = 0;      // G divides H
  std::int64_t head_dim = 0;    // K = V
  std::int64_t rotary_dim = 0;  // the first dimensions of a head, half-split; even

  std::int64_t heads_per_group() const { return heads / groups; }
  std::int64_t pairs() const { return rotary_dim / 2; }
};
GroupedHeads grouped_heads(const ModelConfig& config);

struct GroupedLayer {
  Tensor q;  // (H K, D)
  Tensor k;  // (G K, D)
  Tensor v;  // (G K, D)
};

struct LatentLayer {
  Tensor q;        // (H (K_n + K_r), D): [nope | rope] per head; empty with query compression
  Tensor q_down;   // (R_q, D); query compression alone
  Tensor q_up;     // (H (K_n + K_r), R_q); query compression alone
  Tensor kv_down;  // (R + K_r, D): [latent | shared rotary key]
  Tensor kv_up;    // (H (K_n + V), R): [k_nope | v] per head
};

// target row = source row * factor, both f64 with as many columns.
void copy_row(const Tensor& source, std::int64_t source_row, double factor, Tensor& target,
              std::int64_t target_row);
// target row += source row * factor.
void add_row(const Tensor& source, std::int64_t source_row, double factor, Tensor& target,
             std::int64_t target_row);

}  // namespace polyhead
