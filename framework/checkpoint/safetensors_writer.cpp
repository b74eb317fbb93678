#include "framework/checkpoint/safetensors_writer.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

namespace polyhead {

SafetensorsWriter::SafetensorsWriter(std::filesystem::path folder, std::string stem,
                                     std::vector<TensorInfo> tensors, std::uint64_t max_shard_bytes)
    : folder_(std::move(folder)), stem_(std::move(stem)), tensors_(std::move(tensors)) {
  sort_for_file(tensors_);
  std::uint64_t shard_bytes = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (shard_bytes > 0 && shard_bytes + tensors_[i].bytes() > max_shard_bytes) {
      shard_ends_.push_back(i);
      shard_bytes = 0;
    }
    shard_bytes += tensors_[i].bytes();
  }
  shard_ends_.push_back(tensors_.size());
  open_shard();
}

std::string SafetensorsWriter::shard_name(std::size_t shard) const {
  if (shard_ends_.size() == 1) return stem_ + ".safetensors";
  return fmt::format("{}-{:05}-of-{:05}.safetensors", stem_, shard + 1, shard_ends_.size());
}

void SafetensorsWriter::open_shard() {
  const std::size_t shard = finished_.size();
  const std::size_t begin = shard == 0 ? 0 : shard_ends_[shard - 1];
  file_ = std::make_unique<DurableFile>(folder_ / shard_name(shard));
  file_->write(safetensors_header(std::span(tensors_).subspan(begin, shard_ends_[shard] - begin)));
}

void SafetensorsWriter::close_shard() {
  file_->finish();
  finished_.push_back({shard_name(finished_.size()), file_->size(), file_->hash()});
  file_.reset();
}

void SafetensorsWriter::write(const Tensor& tensor) {
  POLYHEAD_CHECK(next_ < tensors_.size(), "all {} tensors are written", tensors_.size());
  const TensorInfo& info = tensors_[next_];
  POLYHEAD_CHECK(tensor.shape() == info.shape && tensor.dtype() == info.dtype,
                 "{}: declared {} {}, got {} {}", info.name, name_of(info.dtype),
                 info.shape.to_string(), name_of(tensor.dtype()), tensor.shape().to_string());
  if (next_ == shard_ends_[finished_.size()]) {
    close_shard();
    open_shard();
  }
  const Tensor contiguous = tensor.is_contiguous() ? tensor : tensor.clone();
  file_->write({static_cast<const std::byte*>(contiguous.raw()), info.bytes()});
  ++next_;
}

std::vector<FileRecord> SafetensorsWriter::finish() {
  POLYHEAD_CHECK(next_ == tensors_.size(), "{} of {} tensors are written", next_, tensors_.size());
  close_shard();
  if (shard_ends_.size() > 1) {
    finished_.push_back(write_durably(folder_, stem_ + ".safetensors.index.json", index()));
  }
  return std::move(finished_);
}

std::string SafetensorsWriter::index() const {
  std::uint64_t total = 0;
  nlohmann::json weight_map = nlohmann::json::object();
  std::size_t shard = 0;
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    if (i == shard_ends_[shard]) ++shard;
    const std::filesystem::path file = shard_name(shard);
    weight_map[tensors_[i].name] = file.filename().string();
    total += tensors_[i].bytes();
  }
  const nlohmann::json index{{"metadata", {{"total_size", total}}}, {"weight_map", weight_map}};
  return index.dump(2) + "\n";
}

}  // namespace polyhead
