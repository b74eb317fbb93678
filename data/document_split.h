// The parts of a dataset: "969,30,1" gives the first 96.9 % of the documents to training, the next
// 3 % to validation and the last 0.1 % to testing.
#pragma once

#include <cstdint>
#include <string>

namespace polyhead {

enum class DatasetPart { kTrain, kValidation, kTest };

struct DocumentRange {
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

// Up to three numbers of any sum, those left out being 0; an empty split gives all documents to
// every part. Borders lie at cumulative share * documents, rounded to even, as in Megatron.
DocumentRange split_documents(const std::string& split, DatasetPart part, std::int64_t documents);

}  // namespace polyhead
