// Where and in which type a run computes, from the configuration and the machine.
#pragma once

#include <string_view>

#include "framework/device.h"
#include "framework/dtype.h"
#include "scripts/train_config.h"

namespace polyhead {

struct Compute {
  Device device = Device::kCpu;
  DType dtype = DType::kF32;  // of activations and of the weights that products read
};

// What choose_compute would choose, without taking the device or asking whether it is there.
Compute planned_compute(DeviceChoice device, Precision precision);

// device auto is CUDA where the binary and the machine have it, precision auto bf16 on CUDA and
// fp32 on the CPU. Throws Error, naming the key or option that asked for it, if the device is
// missing. Takes the rank's device.
Compute choose_compute(DeviceChoice device, Precision precision, std::string_view key);

}  // namespace polyhead
