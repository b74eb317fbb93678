#include "data/document_split.h"

#include <array>
#include <charconv>
#include <cmath>

#include "framework/error.h"

namespace polyhead {
namespace {

std::array<double, 3> parse(const std::string& split) {
  std::array<double, 3> parts{};
  const char* at = split.data();
  const char* const end = at + split.size();
  bool valid = false;
  double sum = 0;
  for (double& part : parts) {
    const auto [rest, problem] = std::from_chars(at, end, part);
    valid = problem == std::errc() && std::isfinite(part) && part >= 0 &&
            (rest == end || (*rest == ',' && rest + 1 < end));
    sum += part;
    if (!valid || rest == end) {
      at = rest;
      break;
    }
    at = rest + 1;
  }
  require(valid && at == end && sum > 0,
          "split '{}': expected up to three numbers such as 969,30,1 for training, validation and "
          "test, none of them negative and not all zero",
          split);
  for (double& part : parts) part /= sum;
  return parts;
}

}  // namespace

DocumentRange split_documents(const std::string& split, DatasetPart part, std::int64_t documents) {
  if (split.empty()) return {0, documents};
  DocumentRange range;
  double share = 0;
  const std::array<double, 3> parts = parse(split);
  for (std::size_t i = 0; i <= static_cast<std::size_t>(part); ++i) {
    range.begin = range.end;
    share += parts[i];
    range.end = static_cast<std::int64_t>(std::nearbyint(share * static_cast<double>(documents)));
  }
  return range;
}

}  // namespace polyhead
