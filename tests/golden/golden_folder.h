// A folder of README.md: the model that transformers wrote, and the numbers it computes on it.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "framework/checkpoint/safetensors_reader.h"
#include "layers/huggingface/config_reader.h"
#include "tests/support/temporary_folder.h"

namespace polyhead::testing {

// The folders under POLYHEAD_GOLDENS, by default the committed ones.
inline std::vector<std::filesystem::path> golden_folders() {
  const char* named = std::getenv("POLYHEAD_GOLDENS");
  const std::filesystem::path root = named ? named : POLYHEAD_SOURCE_DIR "/tests/golden";
  std::vector<std::filesystem::path> folders;
  for (const auto& entry : std::filesystem::directory_iterator(root)) {
    if (std::filesystem::exists(entry.path() / "golden.json")) folders.push_back(entry.path());
  }
  std::ranges::sort(folders);
  return folders;
}

struct GoldenFolder {
  explicit GoldenFolder(std::filesystem::path folder)
      : path(std::move(folder)),
        model(read_huggingface_model(path)),
        tensors(path / "golden.safetensors"),
        figures(nlohmann::json::parse(read_file(path / "golden.json"))) {}

  // An i64 tensor's numbers as a flat i32 tensor, of which a model takes token ids.
  Tensor ids(const std::string& name) const {
    const Tensor stored = tensors.read(name);
    Tensor ids = Tensor::empty({stored.numel()}, DType::kI32);
    std::copy_n(stored.data<std::int64_t>(), stored.numel(), ids.data<std::int32_t>());
    return ids;
  }

  std::filesystem::path path;
  HuggingFaceModel model;
  SafetensorsReader tensors;
  nlohmann::json figures;
};

}  // namespace polyhead::testing
