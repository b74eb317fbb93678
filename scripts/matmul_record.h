// Which algorithms a run's matrix products take: measured once, the same on all ranks and after a
// resume.
//
// Before the first step all ranks rehearse a micro-batch, or two where a step has several, in which
// the products of a step meet the shapes that they will have. Then all take over what rank 0
// measured, and rank 0 keeps it in the run folder, where a later start finds it. Products of other
// shapes take the library's first guess. The rehearsal costs a second or two on the first start,
// and the time of the micro-batches on later ones.
#pragma once

#include <filesystem>
#include <functional>

#include "framework/comm/communicator.h"
#include "framework/device.h"

namespace polyhead {

inline constexpr const char* kMatmulRecord = "matmul_algorithms.json";

// Collective. Does nothing where the device has no choice.
void settle_matmuls(const std::filesystem::path& run, const Communicator& world, Device device,
                    const std::function<void()>& rehearse);

}  // namespace polyhead
