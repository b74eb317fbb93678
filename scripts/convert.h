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
  std::filesystem::path source;  // as open_model_source takes it
  std::string to;                // "gqa", "mqa", "mla" or "swa"

  // gqa and mqa
  std::optional<std::int64_t> groups = {};
  std::optional<PoolingMethod> method = {};  // absent: mean
  std::optional<std::uint64_t> seed = {};    // of the method random; absent: the source's

  // mla: neither of the first two, or both
  std::optional<std::int64_t> kv_lora_rank = {};
  std::optional<std::int64_t> rope_dim = {};
  std::optional<std::int64_t> q_lora_rank = {};  // absent: queries stay whole

  // swa
  std::optional<std::int64_t> window = {};   // tokens
  std::optional<std::int64_t> pattern = {};  // every n-th layer is global; absent: none

  std::optional<std::string> calibration_dataset = {};  // prefix
  std::int64_t calibration_tokens = 65536;

  std::filesystem::path destination;
};

// Verifies a checkpoint, converts it and returns what it did: one sentence, then a table of what
// that changed, which conversion.json in the result holds in full.
std::string convert(const ConvertOptions& options);

void add_convert_command(CLI::App& app, const Communicator& world);

}  // namespace polyhead
