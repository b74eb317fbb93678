// The attention of a checkpoint with fewer groups of keys and values.
//
// Aligned methods turn keys, values, queries and the output projection so that no output changes
// (head_alignment.h), then pool the keys and values that have come to resemble each other. Moments
// of the optimizer: those of pooled keys and values become zero; momentum of queries and of the
// output projection is rotated like the weights, exactly. Second moments are sums of squares and
// cannot be; they become sum_j R_ij^2 v_j, what they would be if the gradients of different
// dimensions were uncorrelated: zeros beside the rotated momentum would make the first updates many
// times too large.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "layers/conversion/attention_conversion.h"
#include "layers/conversion/calibration.h"
#include "layers/conversion/grouped_query.h"
#include "layers/conversion/head_alignment.h"
#include "layers/conversion/pooling_fidelity.h"

namespace polyhead {

class GroupedQueryConversion : public AttentionConversion {
 public:
  // `config` is the source's. With `inputs`, which must outlive the conversion, distances between
  // heads are those of their outputs on the calibration text; null: those of their weights. Throws
  // Error for an aligned method in a binary without LAPACK.
  GroupedQueryConversion(const ModelConfig& config, const KeyValuePooling& pooling,
                         const AttentionInputs* inputs);

  // Keeps two (head_dim, head_dim) matrices for each of the source's groups. With a text
  // about 20 * source groups * head_dim * D^2 operations: 15 s for 16 heads of 128 and D = 2048 on
  // one core of a busy machine; 5 s without.
  void prepare(std::int64_t layer, const AttentionTensors& weights) override;
  bool replaces(std::string_view name) const override;
  AttentionShapes shapes(std::int64_t layer, const AttentionShapes& replaced) const override;
  AttentionTensors convert(std::int64_t layer, const AttentionTensors& replaced,
                           TensorRole role) const override;

  // The layer's tensors aligned but not pooled: the same function as before. For aligned methods.
  AttentionTensors aligned(std::int64_t layer, const AttentionTensors& weights) const;

  // Of the layers that were prepared.
  const std::map<std::int64_t, PoolingFidelity>& fidelity() const { return fidelity_; }

 private:
  struct Layer {
    std::vector<Tensor> keys, values;   // aligned methods: rotations, one for each source group
    std::vector<std::int64_t> medoids;  // kMedoid: a source group for each target group
  };
  struct Projection {
    Tensor weights;  // (source groups * head_dim, D), or D + 1 with a bias, f64
    Tensor metric;   // (D, D) or (D + 1, D + 1); empty: the identity
  };

  bool aligns() const;
  std::int64_t members() const { return pooling_.source_groups / pooling_.target_groups; }
  Projection projection(std::int64_t layer, const AttentionTensors& weights,
                        const std::string& name) const;
  Tensor group_products(const Projection& projection, std::int64_t group) const;
  std::vector<Tensor> rotations(const Projection& projection, const RotationFreedom& freedom) const;
  RotationFreedom freedom_of_keys(std::int64_t layer, const AttentionTensors& weights) const;
  void measure(std::int64_t layer, const AttentionTensors& weights, const Projection& keys,
               const Projection& values);
  Tensor rotated(const Layer& layer, std::string_view name, const Tensor& source,
                 TensorRole role) const;
  Tensor pooled(std::int64_t layer, const std::string& name, const Tensor& source) const;

  KeyValuePooling pooling_;
  std::int64_t rotary_dim_;
  bool qk_norm_;
  const AttentionInputs* inputs_;
  std::map<std::int64_t, Layer> layers_;
  std::map<std::int64_t, PoolingFidelity> fidelity_;
};

}  // namespace polyhead
