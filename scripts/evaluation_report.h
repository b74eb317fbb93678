// Evaluations of several checkpoints side by side.
#pragma once

#include <string>
#include <vector>

#include "scripts/evaluation.h"
#include "scripts/evaluation_comparison.h"

namespace polyhead {

struct EvaluationReport {
  std::string method;  // the windows' name
  std::vector<CheckpointEvaluation> evaluations;
  std::vector<Comparison> comparisons;
};

// Markdown tables, aligned so that a terminal shows them well: the checkpoints, and the differences
// from the first. "-" for what is absent, with a note. What is counted in tokens is left out where
// the checkpoints have several tokenizers.
std::string evaluation_table(const EvaluationReport& report);

// {"windows", "same_tokenizer", "checkpoints": [one object with the fields of CheckpointEvaluation
// each, "documents" among them: {"nll", "tokens", "bytes", "words"}], "comparisons": [...]}
std::string evaluation_json(const EvaluationReport& report);

}  // namespace polyhead
