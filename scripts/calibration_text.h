// The text that a conversion is calibrated on.
#pragma once

#include <cstdint>
#include <vector>

#include "data/indexed_dataset.h"
#include "layers/conversion/calibration.h"

namespace polyhead {

// About `tokens` tokens of the dataset as windows of `context` that do not overlap, spread evenly
// over all documents; fewer where it has fewer. Windows never reach from one document into the
// next, so the last of each is shorter. Batches hold windows of one length and, for windows up to
// that long, at most 4096 tokens. Throws Error where no document has two tokens, and for a token
// outside the vocabulary.
std::vector<CalibrationBatch> calibration_text(const IndexedDataset& dataset, std::int64_t context,
                                               std::int64_t tokens, std::int64_t vocab_size);

}  // namespace polyhead
