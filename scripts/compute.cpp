#include "scripts/compute.h"

#include "framework/comm/launcher.h"
#include "framework/device_system.h"
#include "framework/dispatch.h"

namespace polyhead {

Compute choose_compute(const TrainingConfig& config) {
  const std::string missing = missing_device(Device::kCuda);
  require(config.device != DeviceChoice::kCuda || missing.empty(), "training.device: {}", missing);
  const bool on_cpu = config.device == DeviceChoice::kCpu ||
                      (config.device == DeviceChoice::kAuto && !missing.empty());
  if (on_cpu) return {Device::kCpu, DType::kF32};
  dispatch(Device::kCuda, []<Device D>() { DeviceSystem<D>::use(launched_local_rank()); });
  return {Device::kCuda, config.precision == Precision::kFp32 ? DType::kF32 : DType::kBf16};
}

}  // namespace polyhead
