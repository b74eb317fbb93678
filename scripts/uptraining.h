// Uptraining: a short training that heals a converted checkpoint, or continues its parent for a
// fair comparison (Ainslie et al., "GQA", 2023). Steps, samples and learning rate count on from the
// source.
#pragma once

#include "optim/learning_rate.h"
#include "scripts/train_config.h"

namespace polyhead {

// Fills in what the source decides: the model, the number of the last step, and the schedule that
// goes on. `source` is the resolved configuration of the source, which had trained for
// `source_steps` steps. Throws ConfigurationError where the schedule that is written here is not
// the source's.
TrainConfig complete_uptraining(TrainConfig config, const TrainConfig& source,
                                std::int64_t source_steps);

// The same where the source is another program's model folder: it decides the model alone, the
// schedule is the one that is written here, and a fraction of its steps is not known.
TrainConfig complete_uptraining(TrainConfig config, const ModelConfig& source);

// Steps that an uptraining run had behind it when it began; 0 for any other run.
std::int64_t first_uptraining_step(const TrainConfig& config);

// The schedule of a resolved configuration, of uptraining or of a run from scratch.
LearningRateSchedule learning_rate_schedule(const TrainConfig& config);

}  // namespace polyhead
