// What the machine can reach, to set a run's own rate beside.
#pragma once

#include "framework/comm/communicator.h"
#include "scripts/compute.h"

namespace polyhead {

// Operations per second of a 1024^3 product on every rank's threads, or of an 8192^3 one on its
// CUDA device, all ranks at once and added up; the best of three. Collective. Takes a tenth of a
// second.
double measured_peak_rate(const Communicator& world, const Compute& compute);

}  // namespace polyhead
