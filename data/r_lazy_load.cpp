#include "data/r_lazy_load.h"

#include <zlib.h>

#include <utility>

#include "data/r_serialization.h"
#include "framework/error.h"
#include "framework/files/mapped_file.h"

namespace polyhead {
namespace {

// Unpacks a gzip or zlib stream; `source` names it in messages.
std::string inflated(std::string_view packed, const std::string& source) {
  constexpr std::size_t kLargest = std::size_t{1} << 30;
  constexpr int kDetectHeader = 15 + 32;
  z_stream stream{};
  require(inflateInit2(&stream, kDetectHeader) == Z_OK, "{}: zlib does not start", source);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string text;
  std::string chunk(std::size_t{1} << 16, '\0');
  int status = Z_OK;
  while (status == Z_OK && text.size() <= kLargest) {
    stream.next_out = reinterpret_cast<Bytef*>(chunk.data());
    stream.avail_out = static_cast<uInt>(chunk.size());
    status = inflate(&stream, Z_NO_FLUSH);
    text.append(chunk, 0, chunk.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  require(status == Z_STREAM_END, "{}: not a whole zlib stream of at most 1 GiB", source);
  return text;
}

// The element of a list by name.
const RValue& element(const RValue& list, std::string_view name, const std::string& source) {
  for (std::size_t i = 0; i < list.names.size() && i < list.elements.size(); ++i) {
    if (list.names[i] == name) return list.elements[i];
  }
  fail("{}: no element '{}'; not the index of a lazy-load database", source, name);
}

std::string_view block(const MappedFile& file, const RValue& place, const std::string& name) {
  constexpr std::size_t kLengthBytes = 4;
  const std::vector<std::int32_t>& numbers = place.integers;
  require(numbers.size() == 2 && numbers[0] >= 0 && numbers[1] > static_cast<int>(kLengthBytes) &&
              static_cast<std::size_t>(numbers[0]) + static_cast<std::size_t>(numbers[1]) <=
                  file.bytes().size(),
          "{}: the place of '{}' lies outside the file", file.path().string(), name);
  return file.text().substr(static_cast<std::size_t>(numbers[0]) + kLengthBytes,
                            static_cast<std::size_t>(numbers[1]) - kLengthBytes);
}

}  // namespace

std::map<std::string, std::vector<std::string>> read_r_character_vectors(
    const std::filesystem::path& database) {
  const MappedFile index_file(database.string() + ".rdx");
  const MappedFile values_file(database.string() + ".rdb");
  const std::string index_name = index_file.path().string();
  const RValue index = parse_r_serialization(inflated(index_file.text(), index_name), index_name);
  const RValue& compressed = element(index, "compressed", index_name);
  require(compressed.integers == std::vector<std::int32_t>{1},
          "{}: only databases compressed by zlib are supported", index_name);

  std::map<std::string, std::vector<std::string>> vectors;
  const RValue& variables = element(index, "variables", index_name);
  for (const std::string& name : variables.names) {
    const std::string source = values_file.path().string() + " (" + name + ")";
    const std::string_view packed = block(values_file, element(variables, name, index_name), name);
    RValue value = parse_r_serialization(inflated(packed, source), source);
    if (!value.strings.empty()) vectors[name] = std::move(value.strings);
  }
  return vectors;
}

}  // namespace polyhead
