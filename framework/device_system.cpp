#include "framework/device_system.h"

#include "framework/dispatch.h"
#include "framework/ops/matmul.h"

namespace polyhead {

template <>
std::string DeviceSystem<Device::kCpu>::missing() {
  return "";
}

template <>
void DeviceSystem<Device::kCpu>::use(int) {}

template <>
std::string DeviceSystem<Device::kCpu>::describe() {
  return ops::blas_description();
}

std::string missing_device(Device device) {
  try {
    return dispatch(device, []<Device D>() { return DeviceSystem<D>::missing(); });
  } catch (const Error& error) {
    return error.what();
  }
}

}  // namespace polyhead
