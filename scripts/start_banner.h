// What a run says of itself before its first step.
#pragma once

#include <string>
#include <vector>

#include "scripts/trainer.h"

namespace polyhead {

// One line a subject: model, parameters, memory, data, ranks, BLAS and the `peak_rate` that steps
// are set beside. Collective: every rank tells its threads and processors.
std::vector<std::string> start_banner(Trainer& trainer, double peak_rate);

}  // namespace polyhead
