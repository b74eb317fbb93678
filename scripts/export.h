// polyhead export: a clean Hugging Face model folder from a checkpoint or a model folder.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "framework/dtype.h"

namespace polyhead {

struct ExportOptions {
  std::filesystem::path source;  // a checkpoint, a run folder for its latest, or a model folder
  std::filesystem::path destination;
  std::optional<DType> dtype;  // f32, bf16 or f16; absent: as each tensor is stored
};

// Verifies the source as far as it has hashes and writes config.json, generation_config.json,
// model.safetensors (or shards and their index) and the tokenizer's files into DESTINATION, which
// must not exist and appears whole or not at all. config.json names the special tokens that the
// source's does, and so does a generation_config.json where the source has none. Values in another
// type than the model's are taken from the f32 masters where there are any; nothing is rounded
// twice. Needs memory for twice the largest tensor. Throws Error, too, for a value that a 16-bit
// float cannot hold. Returns one sentence about it.
std::string export_model(const ExportOptions& options);

}  // namespace polyhead
