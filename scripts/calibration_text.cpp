#include "scripts/calibration_text.h"

#include <algorithm>
#include <span>

#include "framework/error.h"

namespace polyhead {
namespace {

constexpr std::int64_t kBatchTokens = 4096;

struct TextWindow {
  std::int64_t document;
  std::int64_t begin;
  std::int64_t length;
};

std::vector<TextWindow> all_windows(const IndexedDataset& dataset, std::int64_t context) {
  std::vector<TextWindow> windows;
  for (std::int64_t document = 0; document < dataset.document_count(); ++document) {
    const std::int64_t inputs = dataset.document_length(document) - 1;
    for (std::int64_t begin = 0; begin < inputs; begin += context) {
      windows.push_back({document, begin, std::min(context, inputs - begin)});
    }
  }
  require(!windows.empty(), "{}: no document has two tokens, there is nothing to calibrate on",
          dataset.prefix());
  return windows;
}

// Every n-th window, with n as small as `tokens` allows; in order of length, so that few batches
// are small.
std::vector<TextWindow> spread(const std::vector<TextWindow>& windows, std::int64_t tokens) {
  std::int64_t total = 0;
  for (const TextWindow& window : windows) total += window.length;
  const auto every = static_cast<std::size_t>((total + tokens - 1) / tokens);
  std::vector<TextWindow> chosen;
  for (std::size_t i = 0; i < windows.size(); i += every) chosen.push_back(windows[i]);
  std::stable_sort(chosen.begin(), chosen.end(),
                   [](const TextWindow& a, const TextWindow& b) { return a.length > b.length; });
  return chosen;
}

CalibrationBatch read_batch(const IndexedDataset& dataset, std::span<const TextWindow> windows,
                            std::int64_t vocab_size) {
  const auto sequences = static_cast<std::int64_t>(windows.size());
  const auto length = static_cast<std::size_t>(windows.front().length);
  CalibrationBatch batch{Tensor::empty({sequences * windows.front().length}, DType::kI32),
                         Tensor::empty({sequences * windows.front().length}, DType::kI32),
                         sequences};
  std::int32_t* tokens = batch.tokens.data<std::int32_t>();
  std::int32_t* targets = batch.targets.data<std::int32_t>();
  for (const TextWindow& window : windows) {
    dataset.read(window.document, window.begin, std::span(tokens, length), vocab_size);
    dataset.read(window.document, window.begin + 1, std::span(targets, length), vocab_size);
    tokens += length;
    targets += length;
  }
  return batch;
}

}  // namespace

std::vector<CalibrationBatch> calibration_text(const IndexedDataset& dataset, std::int64_t context,
                                               std::int64_t tokens, std::int64_t vocab_size) {
  require(tokens >= 1, "--calibration-tokens {}: must be at least 1", tokens);
  const std::vector<TextWindow> windows = spread(all_windows(dataset, context), tokens);
  std::vector<CalibrationBatch> batches;
  for (std::size_t begin = 0; begin < windows.size();) {
    const std::int64_t length = windows[begin].length;
    const auto most = static_cast<std::size_t>(std::max<std::int64_t>(1, kBatchTokens / length));
    std::size_t end = begin + 1;
    while (end < windows.size() && end - begin < most && windows[end].length == length) ++end;
    batches.push_back(
        read_batch(dataset, std::span(windows).subspan(begin, end - begin), vocab_size));
    begin = end;
  }
  return batches;
}

}  // namespace polyhead
