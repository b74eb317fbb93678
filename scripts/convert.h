// polyhead convert: changes a checkpoint's attention.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "framework/comm/communicator.h"
#include "layers/conversion/grouped_query.h"

namespace CLI {
class App;
}

namespace polyhead {

struct ConvertOptions {
  std::filesystem::path source;  // a checkpoint, or a run folder for its latest one
  std::string to;                // "gqa" or "mqa"
  std::optional<std::int64_t> groups;
  PoolingMethod method = PoolingMethod::kMean;
  std::optional<std::uint64_t> seed;  // of the method random; absent: the source's
  std::filesystem::path destination;
};

// Verifies the source, converts it and returns one sentence about it.
std::string convert(const ConvertOptions& options);

void add_convert_command(CLI::App& app, const Communicator& world);

}  // namespace polyhead
