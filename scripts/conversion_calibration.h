// A checkpoint's model on a text: what its attention reads there, and how a conversion of it
// compares.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "framework/comm/communicator.h"
#include "layers/conversion/attention_conversion.h"
#include "scripts/calibration_text.h"
#include "scripts/inference_model.h"
#include "scripts/model_fidelity.h"

namespace polyhead {

class ConversionCalibration {
 public:
  // Reads the source's model on one rank, on the default device, and runs it over about `tokens`
  // tokens of the dataset in windows of its training's sequence length. Throws Error for a dataset
  // of another tokenizer. Memory: the model, and (hidden_size + 1)^2 x 8 bytes a layer on the host.
  ConversionCalibration(const ModelSource& source, const std::string& dataset_prefix,
                        std::int64_t tokens);

  const std::string& dataset() const { return dataset_; }
  const AttentionInputs& inputs() const { return inputs_; }
  std::int64_t tokens() const { return inputs_.tokens(0); }

  // Compares the source with the model that `config` describes and `folder` holds, which need not
  // be a finished checkpoint. Memory: that model too.
  ModelFidelity compare_with(const ModelConfig& config, const std::filesystem::path& folder) const;
  // The same for a model that differs in its attention alone, whose tensors are given, f32 or f64;
  // what they leave out is the source's.
  ModelFidelity compare_with(
      const ModelConfig& config,
      const std::function<const AttentionTensors&(std::int64_t layer)>& attention) const;

 private:
  // A model on this device with what `fill` puts in its parameters.
  ModelFidelity compare_with_model(const ModelConfig& config,
                                   const std::function<void(ParameterStore&)>& fill) const;

  std::string dataset_;
  std::filesystem::path folder_;
  TensorLayout layout_;
  std::int64_t context_;
  std::unique_ptr<Communicator> solo_;
  InferenceModel source_;
  std::vector<CalibrationBatch> text_;
  AttentionInputs inputs_;
};

}  // namespace polyhead
