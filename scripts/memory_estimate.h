// How much memory the tensors of a training step will take on one rank, without running it.
//
// What is counted is what the pool hands out (framework/buffer.h), as the run reports it for its
// first step. Not counted: the device's context, the workspace of its BLAS, NCCL, blocks that the
// pool keeps for reuse, and tensors of a few numbers for each feature.
#pragma once

#include <cstdint>
#include <string>

#include "scripts/compute.h"
#include "scripts/train_config.h"

namespace polyhead {

struct MemoryEstimate {  // in bytes
  // The flat buffers of ParameterStore and AdamW.
  std::int64_t values = 0, gradients = 0, masters = 0, moments = 0;
  std::int64_t teacher = 0;          // values of the model that is distilled from
  std::int64_t inputs = 0;           // a micro-batch's tokens, and tables of positions
  std::int64_t saved_per_layer = 0;  // between forward and backward
  std::int64_t layers = 0;
  std::int64_t transient = 0;    // beside all of these at the peak
  std::string transient_reason;  // what runs at the peak

  std::int64_t saved() const { return layers * saved_per_layer; }
  std::int64_t total() const {
    return values + gradients + masters + moments + teacher + inputs + saved() + transient;
  }
};

// Of the first of `tensor_parallel_size` ranks. `data_parallel_size` matters where these share the
// optimizer's state, `threads` (of a rank) on the CPU.
// config must be valid for so many ranks and know its vocab_size; so must the model that it distils
// from, null where there is none.
MemoryEstimate estimate_memory(const TrainConfig& config, const Compute& compute,
                               int tensor_parallel_size, int data_parallel_size, int threads,
                               const ModelConfig* teacher = nullptr);

// One line an item in MiB, and the total.
std::string memory_table(const MemoryEstimate& estimate, const Compute& compute,
                         int tensor_parallel_size);

}  // namespace polyhead
