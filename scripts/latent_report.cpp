#include "scripts/latent_report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace polyhead {
namespace {

using Json = nlohmann::ordered_json;

double attention_error(const LatentStageReport& stage, std::int64_t layer) {
  return stage.fidelity.attention_errors.at(static_cast<std::size_t>(layer));
}

std::string layer_table(const LatentReport& report) {
  std::string text =
      fmt::format("layer {:>15} {:>15} {:>15}", "kept: rotation", "keys, values", "queries");
  for (const LatentStageReport& stage : report.stages) {
    text += fmt::format(" {:>15}", "error: " + stage.stage);
  }
  text += '\n';
  for (const auto& [layer, kept] : report.layers) {
    text += fmt::format("{:>5} {:>15.4f} {:>15.4f} {:>15.4f}", layer, kept.rotation,
                        kept.keys_and_values, kept.queries);
    for (const LatentStageReport& stage : report.stages) {
      text += fmt::format(" {:>15.4f}", attention_error(stage, layer));
    }
    text += '\n';
  }
  return text +
         fmt::format("kept: of the energy of {}{}\n",
                     report.dataset ? "the outputs on the text" : "the weights",
                     report.stages.empty() ? "" : "; error: relative, of the attention's outputs");
}

}  // namespace

std::string latent_table(const LatentReport& report) {
  std::string text = report.layers.empty() ? "" : layer_table(report);
  for (const auto& [name, fidelity] : report.stages) {
    text += fmt::format(
        "{}: on {} tokens of {}: perplexity {:.4f} before, {:.4f} after; divergence from the "
        "source {:.5f} nats a token\n",
        name, fidelity.tokens, report.dataset.value_or(""), fidelity.parent_perplexity,
        fidelity.child_perplexity, fidelity.divergence);
  }
  return text;
}

std::string latent_json(const LatentReport& report) {
  Json layers = Json::array(), stages = Json::array();
  for (const auto& [layer, kept] : report.layers) {
    layers.push_back({{"layer", layer},
                      {"kept_rotation", kept.rotation},
                      {"kept_keys_and_values", kept.keys_and_values},
                      {"kept_queries", kept.queries}});
  }
  for (const auto& [name, fidelity] : report.stages) {
    stages.push_back({{"stage", name},
                      {"attention_relative_errors", fidelity.attention_errors},
                      {"divergence", fidelity.divergence},
                      {"perplexity_before", fidelity.parent_perplexity},
                      {"perplexity_after", fidelity.child_perplexity}});
  }
  Json document = {{"method", report.method}};
  if (!layers.empty()) document["layers"] = std::move(layers);
  if (!stages.empty()) {
    document["calibration"] = {{"dataset", report.dataset.value_or("")},
                               {"tokens", report.stages.front().fidelity.tokens},
                               {"stages", std::move(stages)}};
  }
  return document.dump(2) + "\n";
}

}  // namespace polyhead
