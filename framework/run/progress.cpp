#include "framework/run/progress.h"

#include <algorithm>
#include <numeric>

namespace polyhead {

Progress::Progress(std::int64_t first_step, std::int64_t last_step, double now)
    : remaining_steps_(last_step - first_step + 1), start_(now), last_end_(now), warm_since_(now) {}

void Progress::begin_step(double now) {
  step_begin_ = now;
}

void Progress::end_step(double now) {
  ++finished_;
  --remaining_steps_;
  step_seconds_ = now - step_begin_;
  last_end_ = now;
  if (finished_ <= kWarmupSteps) {
    warm_since_ = now;
    window_.clear();
  }
  window_.push_back(step_seconds_);
  if (finished_ == kWarmupSteps + 1 || window_.size() > kWindow) window_.pop_front();
}

double Progress::mean_step_seconds() const {
  return std::accumulate(window_.begin(), window_.end(), 0.0) /
         static_cast<double>(std::max<std::size_t>(1, window_.size()));
}

double Progress::remaining_seconds() const {
  const double per_step =
      finished_ > kWarmupSteps
          ? (last_end_ - warm_since_) / static_cast<double>(finished_ - kWarmupSteps)
          : mean_step_seconds();
  return per_step * static_cast<double>(remaining_steps_);
}

}  // namespace polyhead
