// The learning rate as a pure function of the step: warm-up, then a shape. With k steps since the
// schedule began (the first step is k = 1), w warm-up steps and d decay steps,
//
//   k <= w          initial + (peak - initial) k / w
//   k >  d          minimum (but constant stays at peak)
//   otherwise       minimum + c (peak - minimum),  r = (k - w) / (d - w)
//     constant      c = 1
//     linear        c = 1 - r
//     cosine        c = (1 + cos(pi r)) / 2
//     wsd           c = 1 - sqrt(s),  s the part of the last wsd_decay_steps of d that is over:
//                   warm-up, stable, decay (Hu et al., "MiniCPM", 2024; the root from Haegele et
//                   al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
//                   Durations", 2024)
//
// Nothing is accumulated, so a resumed run sees the same rates bit by bit.
#pragma once

#include <cstdint>
#include <optional>

namespace polyhead {

enum class ScheduleShape { kConstant, kLinear, kCosine, kWsd };

struct LearningRateSchedule {
  ScheduleShape shape = ScheduleShape::kCosine;
  double peak = 0;
  double minimum = 0;
  double initial = 0;  // warm-up starts here; no step uses it
  std::int64_t warmup_steps = 0;
  std::int64_t decay_steps = 0;      // warm-up included
  std::int64_t wsd_decay_steps = 0;  // the last of decay_steps; kWsd only
  std::int64_t begin = 0;            // the step after which the schedule starts
};

// The rate of optimizer step `step`, counted from 1.
double learning_rate(const LearningRateSchedule& schedule, std::int64_t step);

// How uptraining goes on from a parent that has trained for some steps (Ainslie et al., "GQA",
// 2023, continue the parent's schedule).
enum class UptrainSchedule {
  kContinue,  // the parent's schedule, evaluated at the parent's steps + k
  kRewarm,    // a short warm-up to a part of the parent's peak, then cosine to the minimum
  kWsd,       // the same warm-up, stable, then 1 - sqrt to the minimum
};

struct UptrainRate {
  UptrainSchedule mode = UptrainSchedule::kContinue;
  double rewarm_ratio = 0.3;      // of the parent's peak; kRewarm and kWsd
  double warmup_fraction = 0.02;  // of the uptraining steps; kRewarm and kWsd
  double decay_fraction = 0.2;    // of the uptraining steps; kWsd
};

// The schedule of `steps` uptraining steps behind `parent_steps` of the parent. Warm-up starts at
// the parent's last rate.
LearningRateSchedule uptrain_schedule(const LearningRateSchedule& parent, const UptrainRate& rate,
                                      std::int64_t parent_steps, std::int64_t steps);

// ceil(fraction * parent_steps), at least 1; exact where the product is whole but for rounding.
std::int64_t uptrain_steps(double fraction, std::int64_t parent_steps);

}  // namespace polyhead
