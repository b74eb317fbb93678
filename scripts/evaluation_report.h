// Evaluations of several checkpoints side by side.
#pragma once

#include <string>
#include <vector>

#include "scripts/evaluation.h"

namespace polyhead {

// What all rows share, for the line above the table.
struct EvaluationSetting {
  std::string dataset;
  std::string method;  // the windows' name
};

// A Markdown table, aligned so that a terminal shows it well; "-" for what is absent, with a note.
std::string evaluation_table(const EvaluationSetting& setting,
                             const std::vector<CheckpointEvaluation>& evaluations);

// {"dataset", "windows", "checkpoints": [one object with the fields of CheckpointEvaluation each]}
std::string evaluation_json(const EvaluationSetting& setting,
                            const std::vector<CheckpointEvaluation>& evaluations);

}  // namespace polyhead
