// trainer.json: where a training run stands, and what its checkpoint is made of.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "framework/files/durable_file.h"

namespace polyhead {

// How the numbers were made. Resuming is bitwise exact where all of it is equal.
struct Environment {
  std::string blas;  // library and kernel
  std::int64_t threads = 0;
  std::int64_t world_size = 0;
  std::int64_t tensor_model_parallel_size = 0;
  std::int64_t data_parallel_size = 0;
  bool operator==(const Environment&) const = default;
};

// The checkpoint that a conversion started from.
struct Parent {
  std::string path;
  std::int64_t step = 0;
  std::string hash;    // of its trainer.json, which holds the hashes of all its files
  std::string method;  // e.g. "GQA with 2 groups, mean"
  bool operator==(const Parent&) const = default;
};

struct TrainerState {
  static constexpr std::int64_t kFormatVersion = 1;

  std::int64_t step = 0;
  std::int64_t updates = 0;  // of the optimizer: fewer than steps where some were skipped
  std::int64_t samples = 0;  // consumed
  std::int64_t tokens = 0;   // consumed
  std::uint64_t seed = 0;
  std::string config;  // the resolved configuration, YAML
  std::string dataset_fingerprint;
  std::string tokenizer_fingerprint;
  Environment environment;
  std::optional<Parent> parent;
  std::string teacher;            // hash of the model it distils from; empty: none
  std::vector<FileRecord> files;  // all others of the folder
};

// The text of trainer.json. It ends with a hash of itself.
std::string to_json(const TrainerState& state);
// Throws Error, naming `source` and the key, for text that is not what to_json wrote, for more than
// 16 MiB, and for a file whose name leads out of the checkpoint's folder.
TrainerState parse_trainer_state(std::string_view text, const std::string& source);

// Reads FOLDER/trainer.json.
TrainerState read_trainer_state(const std::filesystem::path& folder);

}  // namespace polyhead
