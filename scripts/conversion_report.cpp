#include "scripts/conversion_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

namespace polyhead {
namespace {

using Json = nlohmann::ordered_json;
using Row = std::vector<std::string>;

std::string columns_of(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      text += fmt::format("{:>{}}", row[i], widths[i] + (i == 0 ? 0 : 3));
    }
    text += '\n';
  }
  return text;
}

void add_projection(const ProjectionFidelity& fidelity, bool aligned, Row& row) {
  row.push_back(fmt::format("{:.4f}", fidelity.relative_error));
  row.push_back(aligned
                    ? fmt::format("{:.3f} -> {:.3f}", fidelity.cosine_before, fidelity.cosine_after)
                    : fmt::format("{:.3f}", fidelity.cosine_before));
  row.push_back(fmt::format("{:.3f}", fidelity.norm_ratio));
}

std::optional<double> attention_error(const ConversionReport& report, std::int64_t layer) {
  if (!report.model) return std::nullopt;
  return report.model->attention_errors.at(static_cast<std::size_t>(layer));
}

std::string layer_table(const ConversionReport& report) {
  std::vector<Row> rows = {
      {"layer", "keys: error", "cosine", "norm", "values: error", "cosine", "norm"}};
  if (report.model) rows.front().push_back("attention: error");
  for (const auto& [layer, fidelity] : report.layers) {
    Row row = {fmt::format("{}", layer)};
    add_projection(fidelity.keys, report.aligned, row);
    add_projection(fidelity.values, report.aligned, row);
    if (const auto error = attention_error(report, layer)) {
      row.push_back(fmt::format("{:.4f}", *error));
    }
    rows.push_back(std::move(row));
  }
  return columns_of(rows) +
         fmt::format(
             "error: relative, of {}; cosine: between the heads that share a group{}; norm: of the "
             "group over its members'\n",
             report.dataset ? "the outputs on the text" : "the weights",
             report.aligned ? ", before and after alignment" : "");
}

std::string alignment_note(const ConversionReport& report) {
  if (!report.aligned) return "";
  const auto [least, most] = std::minmax_element(
      report.layers.begin(), report.layers.end(), [](const auto& a, const auto& b) {
        return a.second.aligned_key_dimensions < b.second.aligned_key_dimensions;
      });
  if (least == report.layers.end()) return "";
  const std::int64_t fewest = least->second.aligned_key_dimensions;
  if (fewest == report.head_dim) return "";
  return fmt::format(
      "keys: {} to {} of {} dimensions were aligned; q_norm and k_norm weight the others unequally "
      "within their rotary pair\n",
      fewest, most->second.aligned_key_dimensions, report.head_dim);
}

std::string model_lines(const ConversionReport& report) {
  if (!report.model) return "";
  std::string attention;
  if (report.layers.empty()) {
    const auto& errors = report.model->attention_errors;
    attention = fmt::format("attention outputs: relative error {:.4f} at most\n",
                            *std::max_element(errors.begin(), errors.end()));
  }
  return fmt::format(
      "{}on {} tokens of {}: perplexity {:.4f} before, {:.4f} after; divergence from the source "
      "{:.5f} nats a token\n",
      attention, report.model->tokens, report.dataset.value_or(""), report.model->parent_perplexity,
      report.model->child_perplexity, report.model->divergence);
}

Json projection_json(const ProjectionFidelity& fidelity) {
  return {{"relative_error", fidelity.relative_error},
          {"cosine_before", fidelity.cosine_before},
          {"cosine_after", fidelity.cosine_after},
          {"norm_ratio", fidelity.norm_ratio}};
}

}  // namespace

std::string conversion_table(const ConversionReport& report) {
  const std::string layers =
      report.layers.empty() ? "" : layer_table(report) + alignment_note(report);
  return layers + model_lines(report);
}

std::string conversion_json(const ConversionReport& report) {
  Json layers = Json::array();
  for (const auto& [layer, fidelity] : report.layers) {
    Json entry = {{"layer", layer},
                  {"keys", projection_json(fidelity.keys)},
                  {"values", projection_json(fidelity.values)}};
    if (report.aligned) entry["aligned_key_dimensions"] = fidelity.aligned_key_dimensions;
    layers.push_back(std::move(entry));
  }
  Json document = {{"method", report.method}};
  if (!layers.empty()) document["layers"] = std::move(layers);
  if (report.model) {
    document["calibration"] = {{"dataset", report.dataset.value_or("")},
                               {"tokens", report.model->tokens},
                               {"attention_relative_errors", report.model->attention_errors},
                               {"divergence", report.model->divergence},
                               {"perplexity_before", report.model->parent_perplexity},
                               {"perplexity_after", report.model->child_perplexity}};
  }
  return document.dump(2) + "\n";
}

}  // namespace polyhead
