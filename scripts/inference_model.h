// A checkpoint's model with its weights, on this run's ranks, for commands that only run it
// forward. Memory: the weights in the type it computes in, and no gradients.
#pragma once

#include <cstdint>

#include "framework/comm/communicator.h"
#include "framework/parameters/parameter_store.h"
#include "layers/model.h"
#include "scripts/compute.h"
#include "scripts/model_source.h"
#include "scripts/rank_layout.h"

namespace polyhead {

struct InferenceOptions {
  int tensor_parallel_size = 1;
  DeviceChoice device = DeviceChoice::kAuto;
  Precision precision = Precision::kAuto;
};

class InferenceModel {
 public:
  // Collective over `world`: takes the device, makes the model and reads its weights. Sequences
  // have at most max_sequence_length tokens. Throws Error for a layout that the model or the world
  // cannot have, a context longer than the model's positions, and a damaged checkpoint, naming the
  // option (--tp, --device, --context).
  InferenceModel(const ModelSource& source, std::int64_t max_sequence_length,
                 const InferenceOptions& options, const Communicator& world);

  const Model& model() const { return model_; }
  Device device() const { return compute_.device; }
  const RankLayout& layout() const { return layout_; }

 private:
  Compute compute_;
  RankLayout layout_;
  TensorParallel parallel_;
  Model model_;
  ParameterStore store_;
};

}  // namespace polyhead
