#include "optim/learning_rate.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "framework/error.h"

namespace polyhead {
namespace {

// The part of peak - minimum that is left k steps after the schedule began, behind its warm-up.
double coefficient(const LearningRateSchedule& schedule, std::int64_t k) {
  if (schedule.shape == ScheduleShape::kConstant) return 1;
  if (k > schedule.decay_steps) return 0;
  const auto part_since = [&](std::int64_t start) {
    return static_cast<double>(k - start) / static_cast<double>(schedule.decay_steps - start);
  };
  switch (schedule.shape) {
    case ScheduleShape::kLinear:
      return 1 - part_since(schedule.warmup_steps);
    case ScheduleShape::kCosine:
      return (1 + std::cos(std::numbers::pi * part_since(schedule.warmup_steps))) / 2;
    default: {
      const std::int64_t start =
          std::max(schedule.warmup_steps, schedule.decay_steps - schedule.wsd_decay_steps);
      return k <= start ? 1 : 1 - std::sqrt(part_since(start));
    }
  }
}

std::int64_t ceil_of_product(double fraction, std::int64_t steps) {
  const double product = fraction * static_cast<double>(steps);
  // 0.07 * 100 is 7.000000000000001 in binary: seven steps, not eight.
  return static_cast<std::int64_t>(std::ceil(product * (1 - 1e-12)));
}

}  // namespace

double learning_rate(const LearningRateSchedule& schedule, std::int64_t step) {
  const std::int64_t k = step - schedule.begin;
  POLYHEAD_CHECK(k >= 1, "step {} of a schedule that begins after step {}", step, schedule.begin);
  if (k <= schedule.warmup_steps) {
    return schedule.initial + (schedule.peak - schedule.initial) * static_cast<double>(k) /
                                  static_cast<double>(schedule.warmup_steps);
  }
  return schedule.minimum + coefficient(schedule, k) * (schedule.peak - schedule.minimum);
}

LearningRateSchedule uptrain_schedule(const LearningRateSchedule& parent, const UptrainRate& rate,
                                      std::int64_t parent_steps, std::int64_t steps) {
  if (rate.mode == UptrainSchedule::kContinue) return parent;
  return {
      .shape = rate.mode == UptrainSchedule::kWsd ? ScheduleShape::kWsd : ScheduleShape::kCosine,
      .peak = rate.rewarm_ratio * parent.peak,
      .minimum = parent.minimum,
      .initial = learning_rate(parent, std::max<std::int64_t>(parent_steps, parent.begin + 1)),
      .warmup_steps = ceil_of_product(rate.warmup_fraction, steps),
      .decay_steps = steps,
      .wsd_decay_steps = ceil_of_product(rate.decay_fraction, steps),
      .begin = parent_steps};
}

std::int64_t uptrain_steps(double fraction, std::int64_t parent_steps) {
  return std::max<std::int64_t>(1, ceil_of_product(fraction, parent_steps));
}

}  // namespace polyhead
