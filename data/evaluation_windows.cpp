#include "data/evaluation_windows.h"

#include <algorithm>

#include "framework/error.h"

namespace polyhead {
namespace {

void add(std::vector<EvaluationWindow>& windows, EvaluationWindow window, double weight) {
  window.weight = weight;
  if (window.scored() > 0) windows.push_back(window);
}

std::vector<EvaluationWindow> strided(std::int64_t tokens, std::int64_t context,
                                      std::int64_t stride, bool hugging_face_weights) {
  std::vector<EvaluationWindow> windows;
  std::int64_t seen = 0;  // tokens of all windows so far
  for (std::int64_t begin = 0; seen < tokens; begin += stride) {
    const std::int64_t end = std::min(begin + context, tokens);
    const EvaluationWindow window{begin, end - begin - 1,
                                  std::max<std::int64_t>(seen - begin - 1, 0)};
    const std::int64_t new_tokens = end - seen;
    add(windows, window,
        static_cast<double>(hugging_face_weights ? new_tokens - 1 : window.scored()));
    seen = end;
  }
  return windows;
}

std::vector<EvaluationWindow> rolling(std::int64_t tokens, std::int64_t context) {
  std::vector<EvaluationWindow> windows;
  for (std::int64_t target = 0; target < tokens; target += context) {
    const std::int64_t end = std::min(target + context, tokens);
    const std::int64_t begin = std::max<std::int64_t>(end - context, 0) - 1;
    add(windows, {begin, end - 1 - begin, target - 1 - begin}, static_cast<double>(end - target));
  }
  return windows;
}

std::vector<EvaluationWindow> megatron(std::int64_t tokens, std::int64_t context,
                                       std::int64_t stride) {
  std::vector<EvaluationWindow> windows;
  for (std::int64_t begin = 0; begin == 0 || begin < tokens - 1; begin += stride) {
    const EvaluationWindow window{begin, std::min(context, tokens - 1 - begin),
                                  begin == 0 ? 0 : context - stride};
    add(windows, window, static_cast<double>(window.scored()));
  }
  return windows;
}

}  // namespace

std::vector<EvaluationWindow> evaluation_windows(WindowMethod method, std::int64_t tokens,
                                                 std::int64_t context, std::int64_t stride) {
  require(context > 0, "context {} is not positive", context);
  require(
      method == WindowMethod::kRolling || (0 < stride && stride <= context),
      "stride {} does not lie in [1, {}], the context; a longer one would leave tokens unscored",
      stride, context);
  switch (method) {
    case WindowMethod::kStrided:
      return strided(tokens, context, stride, /*hugging_face_weights=*/false);
    case WindowMethod::kHfStrided:
      return strided(tokens, context, stride, /*hugging_face_weights=*/true);
    case WindowMethod::kRolling:
      return rolling(tokens, context);
    case WindowMethod::kMegatron:
      return megatron(tokens, context, stride);
  }
  POLYHEAD_CHECK(false, "window method {}", static_cast<int>(method));
}

}  // namespace polyhead
