// What a conversion did to a model, as a table and as JSON.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "layers/conversion/pooling_fidelity.h"
#include "scripts/model_fidelity.h"

namespace polyhead {

struct ConversionReport {
  std::string method;  // "GQA with 2 groups, aligned"
  bool aligned = false;
  std::int64_t head_dim = 0;
  std::map<std::int64_t, PoolingFidelity> layers = {};  // empty where the weights stayed
  std::optional<std::string> dataset = {};              // that it was calibrated on
  std::optional<ModelFidelity> model = {};              // on that dataset
};

// A table with a row for each layer, and what was measured on the text. Empty where there is
// neither.
std::string conversion_table(const ConversionReport& report);
// The same in full, for conversion.json.
std::string conversion_json(const ConversionReport& report);

}  // namespace polyhead
