#include "framework/checkpoint/safetensors_format.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>

#include "framework/files/json.h"

namespace polyhead {
namespace {

static_assert(std::endian::native == std::endian::little, "files are little-endian");

constexpr std::uint64_t kPrefixBytes = 8;
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;
constexpr std::string_view kMetadataKey = "__metadata__";

constexpr int kDepth = 3;  // the header, a tensor's entry, its shape

constexpr auto kTypes = std::to_array<StoredType>({
    {"F64", 64, DType::kF64},
    {"F32", 32, DType::kF32},
    {"F16", 16, DType::kF16},
    {"BF16", 16, DType::kBf16},
    {"I64", 64, DType::kI64},
    {"I32", 32, DType::kI32},
    {"BOOL", 8, {}},
    {"U8", 8, {}},
    {"I8", 8, {}},
    {"U16", 16, {}},
    {"I16", 16, {}},
    {"U32", 32, {}},
    {"U64", 64, {}},
    {"C64", 64, {}},
    {"F8_E4M3", 8, {}},
    {"F8_E5M2", 8, {}},
    {"F8_E8M0", 8, {}},
    {"F8_E4M3FNUZ", 8, {}},
    {"F8_E5M2FNUZ", 8, {}},
    {"F6_E2M3", 6, {}},
    {"F6_E3M2", 6, {}},
    {"F4", 4, {}},
});

std::string_view format_name(DType dtype) {
  return std::ranges::find(kTypes, std::optional(dtype), &StoredType::dtype)->name;
}

// The entry of one tensor; every error names `where`, the file and the tensor.
class Entry {
 public:
  Entry(const nlohmann::json& json, std::string where) : json_(json), where_(std::move(where)) {
    require(json_.is_object(), "{}: expected an object with dtype, shape and data_offsets", where_);
  }

  StoredType type() const {
    const nlohmann::json& value = field("dtype");
    require(value.is_string(), "{}: dtype must be a string", where_);
    const auto& name = value.get_ref<const std::string&>();
    const auto* known = std::ranges::find(kTypes, name, &StoredType::name);
    require(known != kTypes.end(), "{}: dtype '{}' is none of the format's", where_, excerpt(name));
    return *known;
  }

  Shape shape() const {
    const nlohmann::json& dims = field("shape");
    require(dims.is_array(), "{}: shape must be an array", where_);
    require(dims.size() <= Shape::kMaxRank, "{}: shape has {} dimensions, at most {} are supported",
            where_, dims.size(), Shape::kMaxRank);
    Shape shape;
    std::uint64_t product = 1;  // without zeros, so that no part of the shape overflows either
    for (const nlohmann::json& dim : dims) {
      const std::uint64_t size = integer(dim, "shape");
      const std::uint64_t factor = std::max<std::uint64_t>(size, 1);
      require(product <= kMaxElements / factor, "{}: the shape's product overflows", where_);
      product *= factor;
      shape.append(static_cast<std::int64_t>(size));
    }
    return shape;
  }

  // Of all elements; those of less than a byte must fill whole bytes.
  std::uint64_t bytes() const {
    constexpr std::uint64_t kBitsOfByte = 8;
    const auto elements = static_cast<std::uint64_t>(shape().numel());
    const std::uint64_t bits = type().bits, odd_bits = elements % kBitsOfByte * bits;
    require(odd_bits % kBitsOfByte == 0, "{}: {} elements of {} bits do not fill whole bytes",
            where_, elements, bits);
    return elements / kBitsOfByte * bits + odd_bits / kBitsOfByte;
  }

  // Where the data begin, after the check that they end where they must.
  std::uint64_t begin() const {
    const nlohmann::json& offsets = field("data_offsets");
    require(offsets.is_array() && offsets.size() == 2,
            "{}: data_offsets must be an array [begin, end]", where_);
    const std::uint64_t begin = integer(offsets[0], "data_offsets");
    const std::uint64_t end = integer(offsets[1], "data_offsets");
    require(begin <= end, "{}: data_offsets end at {} before they begin at {}", where_, end, begin);
    require(end - begin == bytes(), "{}: data_offsets span {} bytes, dtype {} and shape {} need {}",
            where_, end - begin, type().name, shape().to_string(), bytes());
    return begin;
  }

 private:
  // Times the largest element this stays below 2^63, so sizes in bytes cannot overflow either.
  static constexpr std::uint64_t kMaxElements = std::numeric_limits<std::int64_t>::max() / 8;

  const nlohmann::json& field(const char* key) const {
    const auto found = json_.find(key);
    require(found != json_.end(), "{}: {} is missing", where_, key);
    return *found;
  }

  std::uint64_t integer(const nlohmann::json& value, const char* key) const {
    require(value.is_number_unsigned() && value.get<std::uint64_t>() <= kMaxElements,
            "{}: {} must hold non-negative integers of at most {}, got {}", where_, key,
            kMaxElements, excerpt(value.dump()));
    return value.get<std::uint64_t>();
  }

  const nlohmann::json& json_;
  std::string where_;
};

void check_metadata(const nlohmann::json& metadata, const std::string& source) {
  require(metadata.is_object() &&
              std::ranges::all_of(metadata,
                                  [](const nlohmann::json& value) { return value.is_string(); }),
          "{}: {} must map strings to strings", source, kMetadataKey);
}

// The JSON text of the header, after the checks that need no parser.
std::string_view header_text(std::span<const std::byte> file, const std::string& source) {
  require(file.size() >= kPrefixBytes, "{}: {} bytes are too short for a safetensors file", source,
          file.size());
  std::uint64_t size = 0;
  std::memcpy(&size, file.data(), kPrefixBytes);
  require(size <= kMaxHeaderBytes,
          "{}: the header claims {} bytes, at most {} are allowed; this is no safetensors file",
          source, size, kMaxHeaderBytes);
  require(size <= file.size() - kPrefixBytes,
          "{}: the header claims {} bytes but only {} follow; the file is truncated", source, size,
          file.size() - kPrefixBytes);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + kPrefixBytes, size);
  require(text.starts_with('{'), "{}: the header must start with '{{'", source);
  return text;
}

// Requires that the tensors, sorted by position, cover [data_begin, file_size) exactly.
void check_tiling(const std::vector<StoredTensor>& tensors, std::uint64_t data_begin,
                  std::uint64_t file_size, const std::string& source) {
  std::uint64_t covered = data_begin;
  for (const StoredTensor& tensor : tensors) {
    require(tensor.begin >= covered, "{}: {} overlaps the tensor before it", source,
            excerpt(tensor.name));
    require(tensor.begin == covered, "{}: {} unused bytes before {}", source,
            tensor.begin - covered, excerpt(tensor.name));
    covered += tensor.bytes;
    require(covered <= file_size, "{}: {} ends at byte {} of {}; the file is truncated", source,
            excerpt(tensor.name), covered, file_size);
  }
  require(covered == file_size, "{}: {} bytes follow the last tensor; the file was extended",
          source, file_size - covered);
}

}  // namespace

std::vector<StoredTensor> parse_safetensors(std::span<const std::byte> file,
                                            const std::string& source) {
  const std::string_view text = header_text(file, source);
  const nlohmann::json header =
      parse_json(text, source, {.depth = kDepth, .bytes = kMaxHeaderBytes});
  const std::uint64_t data_begin = kPrefixBytes + text.size();
  std::vector<StoredTensor> tensors;
  for (const auto& [name, json] : header.items()) {
    if (name == kMetadataKey) {
      check_metadata(json, source);
      continue;
    }
    const Entry entry(json, fmt::format("{}: {}", source, excerpt(name)));
    tensors.push_back(
        {name, entry.type(), entry.shape(), data_begin + entry.begin(), entry.bytes()});
  }
  std::ranges::sort(tensors, {}, [](const StoredTensor& tensor) {
    return std::tuple(tensor.begin, tensor.bytes);
  });
  check_tiling(tensors, data_begin, file.size(), source);
  return tensors;
}

void sort_for_file(std::vector<TensorInfo>& tensors) {
  std::ranges::sort(tensors, [](const TensorInfo& a, const TensorInfo& b) {
    return std::tuple(size_of(b.dtype), std::string_view(a.name)) <
           std::tuple(size_of(a.dtype), std::string_view(b.name));
  });
}

std::string safetensors_header(std::span<const TensorInfo> tensors) {
  // The metadata tells transformers that the layout is that of its PyTorch models.
  nlohmann::ordered_json header{{kMetadataKey, {{"format", "pt"}}}};
  std::uint64_t offset = 0;
  for (const TensorInfo& tensor : tensors) {
    header[tensor.name] = {{"dtype", format_name(tensor.dtype)},
                           {"shape", std::vector(tensor.shape.begin(), tensor.shape.end())},
                           {"data_offsets", {offset, offset + tensor.bytes()}}};
    offset += tensor.bytes();
  }
  std::string text = header.dump();
  text.append((kPrefixBytes - text.size() % kPrefixBytes) % kPrefixBytes, ' ');
  const std::uint64_t size = text.size();
  std::string prefix(kPrefixBytes, '\0');
  std::memcpy(prefix.data(), &size, kPrefixBytes);
  return prefix + text;
}

}  // namespace polyhead
