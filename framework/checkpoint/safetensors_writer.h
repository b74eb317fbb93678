// Writes safetensors files tensor by tensor: shapes first, then data, never the whole model in
// memory.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "framework/checkpoint/safetensors_format.h"
#include "framework/files/durable_file.h"

namespace polyhead {

class SafetensorsWriter {
 public:
  static constexpr std::uint64_t kDefaultShardBytes = 5'000'000'000;

  // Plans FOLDER/STEM.safetensors or, where the data exceed `max_shard_bytes`, shards
  // STEM-00001-of-000NN.safetensors and STEM.safetensors.index.json; a tensor is never split.
  // STEM may name a subfolder of FOLDER, which must exist.
  SafetensorsWriter(std::filesystem::path folder, std::string stem, std::vector<TensorInfo> tensors,
                    std::uint64_t max_shard_bytes = kDefaultShardBytes);

  // The order in which the tensors must be written.
  const std::vector<TensorInfo>& tensors() const { return tensors_; }
  // The next tensor, with the dtype and shape that were declared; may be a strided view.
  void write(const Tensor& tensor);
  // After the last tensor: everything is on the disk. Returns the files with names relative to
  // FOLDER.
  std::vector<FileRecord> finish();

 private:
  std::string shard_name(std::size_t shard) const;
  void open_shard();
  void close_shard();
  std::string index() const;

  std::filesystem::path folder_;
  std::string stem_;
  std::vector<TensorInfo> tensors_;
  std::vector<std::size_t> shard_ends_;  // one behind the last tensor of each shard
  std::size_t next_ = 0;                 // the tensor that write() expects
  std::unique_ptr<DurableFile> file_;
  std::vector<FileRecord> finished_;
};

}  // namespace polyhead
