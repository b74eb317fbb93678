#include "scripts/compute.h"

#include "framework/comm/launcher.h"
#include "framework/device_system.h"
#include "framework/dispatch.h"

namespace polyhead {

Compute choose_compute(DeviceChoice device, Precision precision, std::string_view key) {
  const std::string missing = missing_device(Device::kCuda);
  require(device != DeviceChoice::kCuda || missing.empty(), "{}: {}", key, missing);
  const bool on_cpu =
      device == DeviceChoice::kCpu || (device == DeviceChoice::kAuto && !missing.empty());
  if (on_cpu) return {Device::kCpu, DType::kF32};
  dispatch(Device::kCuda, []<Device D>() { DeviceSystem<D>::use(launched_local_rank()); });
  return {Device::kCuda, precision == Precision::kFp32 ? DType::kF32 : DType::kBf16};
}

}  // namespace polyhead
