// The hardware behind a device, as a process sees it.
#pragma once

#include <string>

#include "framework/device.h"

namespace polyhead {

template <Device D>
struct DeviceSystem {
  // Why this process cannot use the device; empty where it can.
  static std::string missing();
  // Called once, before the device's first use: takes the device whose index is the rank's place on
  // its host, counted around where there are fewer devices than ranks.
  static void use(int local_rank);
  // For the start banner and the record of what a run computed on, e.g. "NVIDIA H200, cuBLASLt
  // 13.1.0"; on the CPU the BLAS.
  static std::string describe();
};

// DeviceSystem<device>::missing(), or that the binary was built without the device.
std::string missing_device(Device device);

}  // namespace polyhead
