#include "scripts/compute.h"

#include "framework/comm/launcher.h"
#include "framework/device_system.h"
#include "framework/dispatch.h"

namespace polyhead {

Compute planned_compute(DeviceChoice device, Precision precision) {
  const bool on_cpu = device == DeviceChoice::kCpu ||
                      (device == DeviceChoice::kAuto && !missing_device(Device::kCuda).empty());
  if (on_cpu) return {Device::kCpu, DType::kF32};
  return {Device::kCuda, precision == Precision::kFp32 ? DType::kF32 : DType::kBf16};
}

Compute choose_compute(DeviceChoice device, Precision precision, std::string_view key) {
  const Compute compute = planned_compute(device, precision);
  if (compute.device == Device::kCuda) {
    const std::string missing = missing_device(Device::kCuda);
    require(missing.empty(), "{}: {}", key, missing);
    dispatch(Device::kCuda, []<Device D>() { DeviceSystem<D>::use(launched_local_rank()); });
  }
  return compute;
}

}  // namespace polyhead
