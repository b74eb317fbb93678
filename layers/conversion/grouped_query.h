// From multi-head or grouped-query attention to fewer groups (Ainslie et al., "GQA", 2023).
//
// Neighbouring groups of keys and values are pooled: target group g takes the source's groups
// g*r .. g*r + r - 1 with r = source_groups / target_groups. Queries, their norms and the output
// projection stay as they are, since query head h reads group h / (heads / groups) before and
// after. Pooling commutes with the rotation of keys and with biases. This is algebra on one named
// tensor at a time, independent of how tensors are stored or sharded.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "framework/tensor.h"
#include "layers/model_config.h"

namespace polyhead {

enum class PoolingMethod {
  kMean,    // the members' sum, in order, divided by r; in f32 at least, rounded once
  kFirst,   // the first member
  kRandom,  // drawn anew, as a model's initial weights are
  // Those that read a whole layer (grouped_query_conversion.h):
  kMedoid,         // the member that is least far from the others, keys and values together
  kAligned,        // the mean of the members, once they are turned towards each other
  kAlignedRenorm,  // the same, scaled to the mean of the members' Frobenius norms
};

struct KeyValuePooling {
  std::int64_t source_groups = 0;
  std::int64_t target_groups = 0;  // divides source_groups
  std::int64_t head_dim = 0;
  PoolingMethod method = PoolingMethod::kMean;
  std::uint64_t seed = 0;           // kRandom
  double standard_deviation = 0.0;  // kRandom
};

// How `config`'s attention becomes one with `groups` groups. Throws Error for latent attention,
// which has no groups, and for a number that does not divide the source's.
KeyValuePooling plan_pooling(const ModelConfig& config, std::int64_t groups, PoolingMethod method,
                             std::uint64_t seed);

// Whether a parameter belongs to the projections of keys or values: their weights and biases.
bool is_key_or_value_projection(std::string_view name);

// The shape of such a parameter after pooling.
Shape pooled_shape(const std::string& name, const Shape& source, const KeyValuePooling& pooling);

// (source_groups * head_dim, D) to (target_groups * head_dim, D), or the same without D for a bias.
// Keeps the dtype: f64, f32 or bf16. Of the methods that read a whole layer this is their last
// step alone, the mean; kMedoid has none.
Tensor pool_key_values(const std::string& name, const Tensor& source,
                       const KeyValuePooling& pooling);

}  // namespace polyhead
