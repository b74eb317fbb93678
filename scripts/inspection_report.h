// What a configuration means, in words and tables: the attention that was chosen and why, windows,
// shapes on each rank, parameters by part, and the memory of the key-value cache beside that of
// every other variant.
#pragma once

#include <cstdint>
#include <string>

#include "layers/model_config.h"

namespace polyhead {

struct InspectionOptions {
  std::string source;  // a file or checkpoint, for the first line
  int tensor_parallel_size = 1;
  std::int64_t context = 8192;  // tokens in the cache
};

// Which key decided: "num_query_groups is 8: each key and value serves 4 of 32 heads".
std::string attention_reason(const ModelConfig& config);

// "layers 0, 2, ..., 40: 4096 tokens; layers 1, 3, ..., 41: global".
std::string window_table(const ModelConfig& config);

// Throws ConfigurationError where the configuration breaks a rule for these ranks.
std::string inspection_report(const ModelConfig& config, const InspectionOptions& options);

}  // namespace polyhead
