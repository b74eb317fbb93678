// Saving and loading a model's parameters and optimizer state as a Hugging Face model folder:
//
//   config.json, generation_config.json, tokenizer files: for other programs
//   model.safetensors                parameters, whole, where another program looks for them
//                                    (TensorLayout)
//   optimizer/NAME.safetensors       one file per state (exp_avg, exp_avg_sq; master where the
//                                    model is in bf16), whole, under the parameters' names
//   trainer.json                     TrainerState
//
// Nothing in it depends on the layout it was written at: any tensor- and data-parallel size reads
// any checkpoint, each rank its slices. Padding is never written, and zero after loading. Values
// come from the masters where there are any, else from the model.
//
// Saving: the tensor-parallel group of world rank 0 gathers one tensor at a time and world rank 0
// writes it, so a rank needs memory for one whole tensor; of sharded optimizer state the
// data-parallel ranks first put the tensor-parallel slices together, one at a time too. Everything
// is written once, hashed on the way, and synced. Loading: rank 0 verifies all hashes before any
// rank uses a byte. However long either takes, the ranks that wait are told that the others work.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "framework/checkpoint/checkpoint_folder.h"
#include "framework/checkpoint/parameter_reader.h"
#include "framework/checkpoint/safetensors_writer.h"
#include "framework/checkpoint/tensor_layout.h"
#include "framework/checkpoint/trainer_state.h"
#include "framework/comm/communicator.h"
#include "framework/parameters/parameter_store.h"
#include "framework/parameters/replica_check.h"

namespace polyhead {

// What a folder holds beside parameters and states.
struct CheckpointDescription {
  TrainerState trainer;  // `files` is filled in by the save
  std::string config_json;
  std::string generation_config_json;  // empty: no such file
  TensorLayout layout;                 // of model.safetensors
  std::vector<std::filesystem::path> tokenizer_files;
};

// Writes RUN/step_<trainer.step> and points RUN/latest at it. Collective over `world`, of which
// `tensor` is this rank's tensor-parallel group. Replicas are checked for drift first. If anything
// fails on any rank, all ranks throw the same Error and earlier checkpoints stay as they were.
std::filesystem::path save_checkpoint(
    const std::filesystem::path& run, const Communicator& world, const Communicator& tensor,
    const ParameterStore& store, const std::vector<NamedState>& states,
    const CheckpointDescription& description,
    std::uint64_t max_shard_bytes = SafetensorsWriter::kDefaultShardBytes);

// kVerified: newest_good_checkpoint has just read and hashed everything; once is enough.
enum class Hashes { kVerify, kVerified };

// Reads a checkpoint into the parameters and states; a state may have been saved in another dtype,
// f32 is rounded to the nearest bf16. Collective over `world`. A missing, truncated, extended or
// altered file and a missing, extra or mis-shaped tensor are one Error on all ranks. `layout` is
// that of model.safetensors.
TrainerState load_checkpoint(const std::filesystem::path& folder, const Communicator& world,
                             ParameterStore& store, const std::vector<NamedState>& states,
                             const TensorLayout& layout = {}, Hashes hashes = Hashes::kVerify);

// Reads parameters alone from a model folder, ours or another program's. Not collective.
void load_parameters(const std::filesystem::path& folder, ParameterStore& store,
                     const TensorLayout& layout = {});

// The parameters of a model folder under their own names: from the masters where there are any.
ParameterReader open_parameters(const std::filesystem::path& folder, const TensorLayout& layout);

// The size of a checkpoint's tensors on disk, for require_free_space.
std::uint64_t checkpoint_bytes(const ParameterStore& store, const std::vector<NamedState>& states);

}  // namespace polyhead
