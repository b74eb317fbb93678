#include "framework/device_system.h"

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/error.h"

namespace polyhead {
namespace {

int device_count() {
  int count = 0;
  return cudaGetDeviceCount(&count) == cudaSuccess ? count : 0;
}

}  // namespace

template <>
std::string DeviceSystem<Device::kCuda>::missing() {
  if (device_count() > 0) return "";
  return "device cuda: no CUDA device is visible to this process; look at nvidia-smi and "
         "CUDA_VISIBLE_DEVICES, or set training.device: cpu";
}

template <>
void DeviceSystem<Device::kCuda>::use(int local_rank) {
  POLYHEAD_CUDA(cudaSetDevice(local_rank % device_count()));
}

template <>
std::string DeviceSystem<Device::kCuda>::describe() {
  const std::size_t version = cublasLtGetVersion();
  return fmt::format("{}, cuBLASLt {}.{}.{}", cuda::Context::instance().name(), version / 10000,
                     version / 100 % 100, version % 100);
}

}  // namespace polyhead
