#include "scripts/evaluation_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "scripts/markdown_table.h"

namespace polyhead {
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kNoTextMeasures =
    "\n-: bits/byte, byte ppl and word ppl divide by the whole text. They need the dataset's .json "
    "and\nwindows that score all of it (rolling, megatron, or strided and hf_strided with a stride "
    "below the\ncontext).\n";
constexpr const char* kNoAdjustedPerplexity =
    "\n-: adjusted ppl needs the words that the dataset's .json counts by spaces; tokenize the "
    "text again.\n";
constexpr const char* kSeveralTokenizers =
    "\nThe checkpoints have several tokenizers: loss and token ppl do not compare and are left "
    "out.\n";
constexpr const char* kNoDocumentSizes =
    "\nThe dataset has no .sizes file, which counts the bytes and words of its documents; tokenize "
    "the "
    "text\nagain for measures by document.\n";
constexpr const char* kSeveralContexts =
    "\nThe checkpoints were scored with different contexts; --context makes them equal.\n";

std::string optional_number(const std::optional<double>& value, int decimals) {
  return value ? fmt::format("{:.{}f}", *value, decimals) : "-";
}

struct Columns {
  bool tokens;    // loss and token perplexity
  bool adjusted;  // Megatron's adjusted perplexity
};

TableRow heading(const Columns& columns) {
  TableRow row = {"checkpoint", "attention", "parameters", "KV bytes/token"};
  if (columns.tokens) row.insert(row.end(), {"loss", "token ppl"});
  row.insert(row.end(), {"bits/byte", "byte ppl", "word ppl"});
  if (columns.adjusted) row.push_back("adjusted ppl");
  row.insert(row.end(), {"tokens/s", "context", "stride", "scored"});
  return row;
}

TableRow row_of(const CheckpointEvaluation& e, const Columns& columns) {
  TableRow row = {e.checkpoint, e.variant,
                  fmt::format("{:.2f} M", static_cast<double>(e.parameters) * 1e-6),
                  fmt::format("{}", e.kv_cache_bytes_per_token)};
  if (columns.tokens) {
    row.insert(row.end(),
               {fmt::format("{:.4f}", e.loss), fmt::format("{:.3f}", e.token_perplexity)});
  }
  row.insert(row.end(), {optional_number(e.bits_per_byte, 4), optional_number(e.byte_perplexity, 4),
                         optional_number(e.word_perplexity, 2)});
  if (columns.adjusted) row.push_back(optional_number(e.adjusted_perplexity, 2));
  row.insert(row.end(), {fmt::format("{:.0f}", e.tokens_per_second), fmt::format("{}", e.context),
                         fmt::format("{}", e.stride), fmt::format("{}", e.tokens_scored)});
  return row;
}

std::string checkpoints_table(const EvaluationReport& report, const Columns& columns) {
  std::vector<TableRow> rows = {heading(columns)};
  for (const CheckpointEvaluation& e : report.evaluations) rows.push_back(row_of(e, columns));
  return markdown_table(rows, 2);
}

std::string notes(const EvaluationReport& report, const Columns& columns) {
  const auto& all = report.evaluations;
  const auto any = [&](auto&& lacks) { return std::any_of(all.begin(), all.end(), lacks); };
  std::string text;
  if (!columns.tokens) text += kSeveralTokenizers;
  const bool incomplete = any([](const auto& e) { return !e.bits_per_byte; });
  if (incomplete) text += kNoTextMeasures;
  if (columns.adjusted && !incomplete &&
      any([](const auto& e) { return !e.adjusted_perplexity; })) {
    text += kNoAdjustedPerplexity;
  }
  if (any([](const auto& e) { return !e.documents.empty() && !e.documents.front().size; })) {
    text += kNoDocumentSizes;
  }
  if (any([&](const auto& e) { return e.context != all.front().context; })) {
    text += kSeveralContexts;
  }
  return text;
}

std::string comparison_table(const std::vector<Comparison>& comparisons) {
  if (comparisons.empty()) return "";
  std::vector<TableRow> rows = {{"against " + comparisons.front().baseline, "of log ppl per",
                                 "difference", "95 % interval", "wins", "units", "unit"}};
  std::string remarks;
  for (const Comparison& c : comparisons) {
    TableRow row = {c.checkpoint, c.measure, "-", "-", "-", "-", c.unit};
    if (c.difference) {
      row[2] = fmt::format("{:+.5f}", c.difference->mean);
      if (const auto& interval = c.difference->interval) {
        row[3] = fmt::format("{:+.5f} to {:+.5f}", interval->low, interval->high);
      }
      row[4] = fmt::format("{:.1f} %", 100 * c.difference->win_rate);
      row[5] = fmt::format("{}", c.units);
    } else {
      remarks += fmt::format("\n{}: not paired: {}.\n", c.checkpoint, c.why_not);
    }
    rows.push_back(row);
  }
  if (comparisons.front().unit != "document") {
    remarks +=
        "\nThe text is one document, so that blocks of consecutive windows were drawn in the place "
        "of documents.\n";
  }
  return fmt::format(
             "\nDifference of the negative log-likelihoods in nats, paired; {} resamples\n\n",
             kBootstrapResamples) +
         markdown_table(rows, 2) + remarks;
}

std::string datasets(const std::vector<CheckpointEvaluation>& evaluations) {
  std::vector<std::string> names;
  for (const CheckpointEvaluation& e : evaluations) {
    if (std::find(names.begin(), names.end(), e.dataset) == names.end()) names.push_back(e.dataset);
  }
  return fmt::format("{}", fmt::join(names, ", "));
}

template <class Value>
Json optional_json(const std::optional<Value>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json documents_json(const CheckpointEvaluation& evaluation) {
  Json documents = Json::array();
  for (const DocumentScore& document : evaluation.documents) {
    Json row = {{"nll", document.nll}, {"tokens", document.tokens}};
    row["bytes"] = document.size ? Json(document.size->bytes) : Json(nullptr);
    row["words"] = document.size ? Json(document.size->words) : Json(nullptr);
    documents.push_back(std::move(row));
  }
  return documents;
}

Json evaluation_object(const CheckpointEvaluation& e) {
  return {{"checkpoint", e.checkpoint},
          {"dataset", e.dataset},
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
          {"byte_perplexity", optional_json(e.byte_perplexity)},
          {"word_perplexity", optional_json(e.word_perplexity)},
          {"adjusted_perplexity", optional_json(e.adjusted_perplexity)},
          {"tokens_per_second", e.tokens_per_second},
          {"documents", documents_json(e)}};
}

Json comparison_object(const Comparison& c) {
  Json row = {{"checkpoint", c.checkpoint},
              {"baseline", c.baseline},
              {"per", c.measure},
              {"unit", c.unit},
              {"units", c.units},
              {"resamples", kBootstrapResamples},
              {"difference", nullptr},
              {"low", nullptr},
              {"high", nullptr},
              {"win_rate", nullptr}};
  if (!c.difference) {
    row["why_not"] = c.why_not;
    return row;
  }
  row["difference"] = c.difference->mean;
  row["win_rate"] = c.difference->win_rate;
  if (const auto& interval = c.difference->interval) {
    row["low"] = interval->low;
    row["high"] = interval->high;
  }
  return row;
}

}  // namespace

std::string evaluation_table(const EvaluationReport& report) {
  const Columns columns{share_tokenizer(report.evaluations), report.method == "megatron"};
  return fmt::format("{}, {} windows; KV cache in bf16, all layers\n\n",
                     datasets(report.evaluations), report.method) +
         checkpoints_table(report, columns) + notes(report, columns) +
         comparison_table(report.comparisons);
}

std::string evaluation_json(const EvaluationReport& report) {
  Json checkpoints = Json::array(), comparisons = Json::array();
  for (const CheckpointEvaluation& e : report.evaluations) {
    checkpoints.push_back(evaluation_object(e));
  }
  for (const Comparison& c : report.comparisons) comparisons.push_back(comparison_object(c));
  const Json document = {{"windows", report.method},
                         {"same_tokenizer", share_tokenizer(report.evaluations)},
                         {"checkpoints", checkpoints},
                         {"comparisons", comparisons}};
  return document.dump(2) + "\n";
}

}  // namespace polyhead
