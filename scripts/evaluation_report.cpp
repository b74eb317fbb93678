#include "scripts/evaluation_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace polyhead {
namespace {

constexpr const char* kNoTextMeasures =
    "\n-: bits/byte and word ppl divide by the whole text. They need windows that score all of it "
    "(rolling,\nmegatron, or strided and hf_strided with a stride below the context) and the "
    "dataset's .json.\n";

using Row = std::vector<std::string>;

std::string optional_number(const std::optional<double>& value, int decimals) {
  return value ? fmt::format("{:.{}f}", *value, decimals) : "-";
}

Row row_of(const CheckpointEvaluation& e) {
  return {e.checkpoint,
          e.variant,
          fmt::format("{:.2f} M", static_cast<double>(e.parameters) * 1e-6),
          fmt::format("{}", e.kv_cache_bytes_per_token),
          fmt::format("{:.4f}", e.loss),
          fmt::format("{:.3f}", e.token_perplexity),
          optional_number(e.bits_per_byte, 4),
          optional_number(e.word_perplexity, 2),
          fmt::format("{:.0f}", e.tokens_per_second),
          fmt::format("{}", e.context),
          fmt::format("{}", e.stride),
          fmt::format("{}", e.tokens_scored)};
}

std::string aligned(const std::vector<Row>& rows) {
  std::vector<std::size_t> widths(rows.front().size(), 0);
  for (const Row& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  std::string text;
  for (std::size_t line = 0; line < rows.size(); ++line) {
    for (std::size_t i = 0; i < widths.size(); ++i) {
      const bool words = i < 2;
      text += words ? fmt::format("| {:<{}} ", rows[line][i], widths[i])
                    : fmt::format("| {:>{}} ", rows[line][i], widths[i]);
    }
    text += "|\n";
    if (line > 0) continue;
    for (std::size_t i = 0; i < widths.size(); ++i) {
      text += fmt::format("|{:-<{}}{}", "", widths[i] + 1, i < 2 ? "-" : ":");
    }
    text += "|\n";
  }
  return text;
}

}  // namespace

std::string evaluation_table(const EvaluationSetting& setting,
                             const std::vector<CheckpointEvaluation>& evaluations) {
  std::vector<Row> rows = {{"checkpoint", "attention", "parameters", "KV bytes/token", "loss",
                            "token ppl", "bits/byte", "word ppl", "tokens/s", "context", "stride",
                            "scored"}};
  bool complete = true;
  for (const CheckpointEvaluation& evaluation : evaluations) {
    rows.push_back(row_of(evaluation));
    complete = complete && evaluation.bits_per_byte;
  }
  return fmt::format("{}, {} windows; KV cache in bf16, all layers\n\n{}{}", setting.dataset,
                     setting.method, aligned(rows), complete ? "" : kNoTextMeasures);
}

std::string evaluation_json(const EvaluationSetting& setting,
                            const std::vector<CheckpointEvaluation>& evaluations) {
  using Json = nlohmann::ordered_json;
  const auto optional_json = [](const std::optional<double>& value) {
    return value ? Json(*value) : Json(nullptr);
  };
  Json rows = Json::array();
  for (const CheckpointEvaluation& e : evaluations) {
    rows.push_back({{"checkpoint", e.checkpoint},
                    {"variant", e.variant},
                    {"step", e.step},
                    {"parameters", e.parameters},
                    {"kv_cache_bytes_per_token", e.kv_cache_bytes_per_token},
                    {"context", e.context},
                    {"stride", e.stride},
                    {"tokens_scored", e.tokens_scored},
                    {"loss", e.loss},
                    {"token_perplexity", e.token_perplexity},
                    {"bits_per_byte", optional_json(e.bits_per_byte)},
                    {"word_perplexity", optional_json(e.word_perplexity)},
                    {"adjusted_perplexity", optional_json(e.adjusted_perplexity)},
                    {"tokens_per_second", e.tokens_per_second}});
  }
  const Json document = {
      {"dataset", setting.dataset}, {"windows", setting.method}, {"checkpoints", rows}};
  return document.dump(2) + "\n";
}

}  // namespace polyhead
