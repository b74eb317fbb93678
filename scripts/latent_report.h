// What a conversion to latent attention did to a model, as a table and as JSON.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "layers/conversion/latent_attention_conversion.h"
#include "scripts/model_fidelity.h"

namespace polyhead {

struct LatentStageReport {
  std::string stage;  // "rotation", "rank", "norm"; "result" of an exact conversion
  ModelFidelity fidelity;
};

struct LatentReport {
  std::string method;
  std::map<std::int64_t, LatentAttentionConversion::Kept> layers = {};  // empty: exact
  std::optional<std::string> dataset = {};                              // that it was calibrated on
  std::vector<LatentStageReport> stages = {};                           // on that dataset
};

// A row for each layer: the energy that was kept and the attention's error after each stage; then a
// line for each stage. Empty where there is neither.
std::string latent_table(const LatentReport& report);
// The same in full, for conversion.json.
std::string latent_json(const LatentReport& report);

}  // namespace polyhead
