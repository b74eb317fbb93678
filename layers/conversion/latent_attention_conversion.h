// The conversion of a checkpoint to latent attention.
#pragma once

#include <array>
#include <map>
#include <optional>

#include "layers/conversion/attention_conversion.h"
#include "layers/conversion/calibration.h"
#include "layers/conversion/latent_conversion.h"

namespace polyhead {

// Replaces q_proj, k_proj and v_proj by the projections of latent attention, and their moments by
// zeros; o_proj and everything else stay. Without a target the embedding, which loses nothing
// (layers/conversion/latent_embedding.h).
class LatentAttentionConversion final : public AttentionConversion {
 public:
  struct Kept {
    double rotation = 1.0, keys_and_values = 1.0, queries = 1.0;  // as in CompressedLayer
  };

  // `inputs` weighs what a target cuts away and must outlive the object; null: as if the
  // attention's inputs were uncorrelated and of unit size. Throws Error where `config` or the
  // target does not fit (layers/conversion/latent_conversion.h).
  LatentAttentionConversion(const ModelConfig& config, std::optional<LatentTarget> target,
                            const AttentionInputs* inputs);

  // The model's keys after a stage; the result's are those after the norm. Without a target there
  // are no stages.
  ModelConfig config_after(LatentStage stage) const;

  // With a target: memory for three results a layer, f32 unless the weights are f64.
  void prepare(std::int64_t layer, const AttentionTensors& weights) override;
  bool replaces(std::string_view name) const override;
  AttentionShapes shapes(std::int64_t layer, const AttentionShapes& replaced) const override;
  AttentionTensors convert(std::int64_t layer, const AttentionTensors& replaced,
                           TensorRole role) const override;

  // Of the layers that were prepared; with a target alone.
  const AttentionTensors& tensors_after(LatentStage stage, std::int64_t layer) const;
  const std::map<std::int64_t, Kept>& kept() const { return kept_; }

 private:
  using Stages = std::array<AttentionTensors, 3>;
  Tensor covariance(std::int64_t layer) const;

  ModelConfig config_;
  std::optional<LatentTarget> target_;
  const AttentionInputs* inputs_;
  std::map<std::int64_t, Stages> stages_;
  std::map<std::int64_t, Kept> kept_;
};

}  // namespace polyhead
