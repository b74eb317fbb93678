// A model folder as a source of a model: what it is, before any weight is read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "framework/checkpoint/tensor_layout.h"
#include "framework/checkpoint/trainer_state.h"
#include "framework/comm/communicator.h"
#include "framework/parameters/parameter_store.h"
#include "layers/model_config.h"

namespace polyhead {

struct ModelSource {
  std::filesystem::path folder;
  ModelConfig model;
  TensorLayout layout;  // of its model.safetensors
  // Of its training; of another program's folder the longest context, at most 4096 tokens.
  std::int64_t sequence_length = 0;
  std::int64_t step = 0;              // that its training reached
  std::string tokenizer_fingerprint;  // empty: not known
  std::string dropout;                // why it is not trained (HuggingFaceModel); empty: it is
  // Of a checkpoint: its trainer.json. Absent in another program's model folder, which has no
  // hashes that damage could be found by.
  std::optional<TrainerState> trainer;
};

// Whether `path` is a model folder with a config.json that no Polyhead training wrote.
bool is_plain_model_folder(const std::filesystem::path& path);

// `path` names a checkpoint, a run folder for its latest, or another program's model folder
// (layers/huggingface/config_reader.h). Damage of the tensors is not looked for. Throws Error where
// there is none of these, and for a config.json that is refused. Not collective.
ModelSource open_model_source(const std::filesystem::path& path);

// The type that most of the weights are stored in: that of the largest tensor.
DType stored_dtype(const ModelSource& source);

// Equal where two folders hold the same model: the hash of trainer.json, which holds those of all
// files, or of the hashes of config.json and of all files of tensors, which are read for it.
std::string content_hash(const ModelSource& source);

// Reads the weights, those of a checkpoint once its hashes were compared. Collective over `world`.
void load_weights(const ModelSource& source, const Communicator& world, ParameterStore& store);

}  // namespace polyhead
