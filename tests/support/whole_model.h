// A model on one rank whose weights a test may take, change and give back by name.
#pragma once

#include <map>
#include <memory>
#include <string>

#include "framework/parameters/parameter_store.h"
#include "layers/conversion/attention_conversion.h"
#include "layers/model.h"
#include "tests/support/compare.h"
#include "tests/support/model_run.h"

namespace polyhead::testing {

struct WholeModel {
  static constexpr std::int64_t kBatch = 3, kLength = 9;

  explicit WholeModel(const ModelConfig& config, DType dtype = DType::kF32)
      : model(config, kLength, parallel, dtype), store(model.parameters(), dtype, Device::kCpu) {
    store.initialize(11);
  }

  // Biases and norms begin at values that hide them.
  void randomize_vectors() {
    for (Parameter* parameter : model.parameters()) {
      if (parameter->global_shape.rank() > 1) continue;
      parameter->value.copy_from(
          random_tensor(parameter->global_shape, parameter->value.dtype(), parameter->name, 0.5));
    }
  }

  Parameter& parameter(const std::string& name) {
    for (Parameter* candidate : model.parameters()) {
      if (candidate->name == name) return *candidate;
    }
    fail("no parameter {}", name);
  }

  AttentionTensors attention(std::int64_t layer) {
    AttentionTensors tensors;
    for (Parameter* parameter : model.parameters()) {
      const auto parsed = attention_tensor_name(parameter->name);
      if (parsed && parsed->layer == layer) tensors[parsed->name] = parameter->value.clone();
    }
    return tensors;
  }
  void set_attention(std::int64_t layer, const AttentionTensors& tensors) {
    for (const auto& [name, tensor] : tensors) {
      parameter(attention_prefix(layer) + name).value.copy_from(tensor);
    }
  }
  // Everything but what the other model's attention may have in another shape.
  void copy_from(WholeModel& other) {
    for (Parameter* mine : model.parameters()) {
      const Parameter& theirs = other.parameter(mine->name);
      if (theirs.global_shape == mine->global_shape) mine->value.copy_from(theirs.value);
    }
  }

  static Tensor tokens() { return token_ids(kBatch * kLength, 37, "tokens"); }
  Tensor losses() const {
    const Tensor targets = token_ids(kBatch * kLength, 37, "targets");
    return model.output_loss().losses(model.infer(tokens(), kBatch), targets);
  }

  std::unique_ptr<Communicator> solo = make_solo_communicator();
  TensorParallel parallel{*solo, /*sequence_parallel=*/false};
  Model model;
  ParameterStore store;
};

}  // namespace polyhead::testing
