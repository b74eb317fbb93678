// How fast a run goes and how long it will take.
//
// The first steps of a process are slower (memory is requested, caches are cold), so speed and the
// time left leave them out as soon as there are others.
#pragma once

#include <cstdint>
#include <deque>

namespace polyhead {

class Progress {
 public:
  static constexpr std::int64_t kWarmupSteps = 2;
  static constexpr std::size_t kWindow = 20;  // steps that the mean speed covers

  // Steps first_step .. last_step lie ahead; `now` is a monotonic clock in seconds, here and below.
  Progress(std::int64_t first_step, std::int64_t last_step, double now);

  void begin_step(double now);
  void end_step(double now);

  double step_seconds() const { return step_seconds_; }  // of the last step
  // Mean over the last kWindow steps; what lies between steps (evaluation, checkpoints) excluded.
  double mean_step_seconds() const;
  double elapsed_seconds() const { return last_end_ - start_; }
  // What lies between steps included.
  double remaining_seconds() const;

 private:
  std::int64_t remaining_steps_;
  std::int64_t finished_ = 0;
  double start_;
  double step_begin_ = 0;
  double step_seconds_ = 0;
  double last_end_;
  double warm_since_;  // the end of the last step that is left out
  std::deque<double> window_;
};

}  // namespace polyhead
