#include "framework/checkpoint/safetensors_reader.h"

#include <nlohmann/json.hpp>
#include <set>

#include "framework/checkpoint/element_conversion.h"
#include "framework/files/folder.h"
#include "framework/files/json.h"

namespace polyhead {
namespace {

// The shard of every tensor, after the checks that need only the index.
std::map<std::string, std::string> parse_index(const MappedFile& file) {
  const std::string source = file.path().string();
  const nlohmann::json index = parse_json(file.text(), source);
  require(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object(),
          "{}: weight_map, an object from tensor to file, is missing", source);
  std::map<std::string, std::string> shards;
  for (const auto& [tensor, shard] : index["weight_map"].items()) {
    require(shard.is_string(), "{}: the file of {} must be a string", source, excerpt(tensor));
    const auto& name = shard.get_ref<const std::string&>();
    require(
        stays_below(name) && name.ends_with(".safetensors") && name.find('/') == std::string::npos,
        "{}: {} lies in '{}'; only safetensors files of the same folder are allowed", source,
        excerpt(tensor), excerpt(name));
    shards.emplace(tensor, name);
  }
  require(!shards.empty(), "{}: weight_map lists no tensor", source);
  return shards;
}

}  // namespace

SafetensorsReader::SafetensorsReader(const std::filesystem::path& file) : source_(file) {
  add_file(file);
}

SafetensorsReader::SafetensorsReader(const std::filesystem::path& folder, const std::string& stem)
    : source_(folder) {
  const std::filesystem::path file = folder / (stem + ".safetensors");
  std::filesystem::path index = file;
  index += ".index.json";
  if (file_exists(file)) {
    add_file(file);
  } else if (file_exists(index)) {
    add_shards(index);
  } else {
    fail("{} does not exist, nor does {}", file.string(), index.string());
  }
}

void SafetensorsReader::add_file(const std::filesystem::path& file) {
  files_.emplace_back(file);
  for (StoredTensor& tensor : parse_safetensors(files_.back().bytes(), file.string())) {
    const auto [existing, added] =
        locations_.try_emplace(tensor.name, Location{files_.size() - 1, tensor});
    require(added, "{}: {} is also in {}", file.string(), excerpt(tensor.name),
            files_[existing->second.file].path().string());
  }
}

void SafetensorsReader::add_shards(const std::filesystem::path& index) {
  const std::map<std::string, std::string> shards = parse_index(MappedFile(index));
  std::set<std::string> names;
  for (const auto& [tensor, shard] : shards) names.insert(shard);
  for (const std::string& shard : names) {
    require(file_exists(index.parent_path() / shard), "{}: the shard {} is missing", index.string(),
            excerpt(shard));
    add_file(index.parent_path() / shard);
  }
  for (const auto& [tensor, shard] : shards) {
    require(contains(tensor) && file_of(tensor).filename() == shard, "{}: {} is not in {}",
            index.string(), excerpt(tensor), excerpt(shard));
  }
  for (const auto& [tensor, location] : locations_) {
    require(shards.contains(tensor), "{}: {} holds {}, which the index does not list",
            index.string(), file_of(tensor).filename().string(), excerpt(tensor));
  }
}

const SafetensorsReader::Location& SafetensorsReader::find(std::string_view name) const {
  const auto found = locations_.find(name);
  require(found != locations_.end(), "{}: the tensor {} is missing", source_.string(), name);
  return found->second;
}

std::vector<std::string> SafetensorsReader::names() const {
  std::vector<std::string> names;
  for (const auto& [name, location] : locations_) names.push_back(name);
  return names;
}

bool SafetensorsReader::contains(std::string_view name) const {
  return locations_.contains(name);
}

TensorInfo SafetensorsReader::info(std::string_view name) const {
  const StoredTensor& tensor = find(name).tensor;
  require(tensor.type.dtype.has_value(),
          "{}: {} holds {}, which is not loaded; convert it to F32 or BF16", file_of(name).string(),
          excerpt(name), tensor.type.name);
  return {tensor.name, *tensor.type.dtype, tensor.shape};
}

std::vector<TensorInfo> SafetensorsReader::tensors() const {
  std::vector<TensorInfo> tensors;
  for (const auto& [name, location] : locations_) tensors.push_back(info(name));
  return tensors;
}

const std::filesystem::path& SafetensorsReader::file_of(std::string_view name) const {
  return files_[find(name).file].path();
}

Tensor SafetensorsReader::read(std::string_view name) const {
  const TensorInfo tensor = info(name);
  Tensor out = Tensor::empty(tensor.shape, tensor.dtype);
  const std::int64_t entries = tensor.shape.rank() == 0 ? 1 : tensor.shape[0];
  read_slice(name, 0, 0, entries, out);
  return out;
}

void SafetensorsReader::read_slice(std::string_view name, int dim, std::int64_t begin,
                                   std::int64_t end, Tensor& out) const {
  const Location& location = find(name);
  const TensorInfo info = this->info(name);
  // Of the stored tensor: `rows` rows of `cols` elements, of which columns from `first_col` on.
  const std::int64_t cols = info.shape.rank() == 0 ? 1 : info.shape[info.shape.rank() - 1];
  const std::int64_t per_entry =
      info.shape.rank() == 0 || info.shape[0] == 0 ? 1 : info.shape.numel() / info.shape[0];
  const std::int64_t first = dim == 0 ? begin * per_entry : begin;
  POLYHEAD_CHECK(dim == 0 || info.shape.rank() == 2, "{}: slices lie along rows or columns", name);
  POLYHEAD_CHECK(dim == 0 ? out.numel() == (end - begin) * per_entry
                          : out.rows() == info.shape[0] && out.cols() == end - begin,
                 "{}: [{}, {}) of dimension {} into {}", name, begin, end, dim,
                 out.shape().to_string());
  POLYHEAD_CHECK(0 <= begin && end <= (info.shape.rank() == 0 ? 1 : info.shape[dim]),
                 "{}: [{}, {}) of {}", name, begin, end, info.shape.to_string());
  if (out.numel() == 0) return;  // of however many rows
  const std::byte* from = files_[location.file].bytes().data() + location.tensor.begin;
  const std::int64_t from_stride = out.shape().rank() <= 1 ? out.cols() : cols;
  const std::size_t from_size = size_of(info.dtype), to_size = size_of(out.dtype());
  auto* to = static_cast<std::byte*>(out.raw());
  for (std::int64_t row = 0; row < out.rows(); ++row) {
    convert_elements(from + static_cast<std::size_t>(first + row * from_stride) * from_size,
                     info.dtype, to + static_cast<std::size_t>(row * out.row_stride()) * to_size,
                     out.dtype(), out.cols());
  }
}

}  // namespace polyhead
