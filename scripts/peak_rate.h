// What the machine can reach, to set a run's own rate beside.
#pragma once

#include "framework/comm/communicator.h"

namespace polyhead {

// Operations per second of a 1024^3 product in f32 on every rank's threads, all ranks at once and
// added up; the best of three. Collective. Takes 6.4e9 operations of each rank, a tenth of a
// second.
double measured_peak_rate(const Communicator& world);

}  // namespace polyhead
