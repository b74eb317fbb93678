#include "framework/device_memory.h"

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/error.h"

namespace polyhead {

using cuda::Context;

namespace {

// Null if `allocated` says that there is no room.
void* data_unless_short(void* data, cudaError_t allocated, const char* call) {
  if (allocated == cudaErrorMemoryAllocation) {
    cudaGetLastError();  // not sticky: clear it
    return nullptr;
  }
  cuda::check(allocated, call);
  return data;
}

}  // namespace

template <>
void* DeviceMemory<Device::kCuda>::allocate(std::size_t bytes) {
  Context::instance();  // the device is chosen and reserves its own memory before ours
  void* data = nullptr;
  const cudaError_t status = cudaMalloc(&data, bytes);
  return data_unless_short(data, status, "cudaMalloc");
}

template <>
void DeviceMemory<Device::kCuda>::free(void* data) {
  POLYHEAD_CUDA(cudaFree(data));
}

template <>
void* DeviceMemory<Device::kCuda>::allocate_page_locked(std::size_t bytes) {
  Context::instance();
  void* data = nullptr;
  const cudaError_t status = cudaMallocHost(&data, bytes);
  return data_unless_short(data, status, "cudaMallocHost");
}

template <>
void DeviceMemory<Device::kCuda>::free_page_locked(void* data) noexcept {
  // Not checked: this also runs while an error of the device ends the program.
  static_cast<void>(cudaFreeHost(data));
}

template <>
std::string DeviceMemory<Device::kCuda>::describe_room() {
  std::size_t free = 0, total = 0;
  POLYHEAD_CUDA(cudaMemGetInfo(&free, &total));
  constexpr double kGiB = 1 << 30;
  return fmt::format(" of {:.1f} GiB, of which {:.1f} GiB are free",
                     static_cast<double>(total) / kGiB, static_cast<double>(free) / kGiB);
}

template <>
void DeviceMemory<Device::kCuda>::set_bytes(void* data, unsigned char value, std::size_t bytes) {
  POLYHEAD_CUDA(cudaMemsetAsync(data, value, bytes, Context::instance().stream()));
}

template <>
void DeviceMemory<Device::kCuda>::copy_rows(const void* from, std::size_t from_pitch, void* to,
                                            std::size_t to_pitch, std::size_t width,
                                            std::size_t rows) {
  if (width == 0 || rows == 0) return;
  const cudaStream_t stream = Context::instance().stream();
  if (rows == 1) {
    POLYHEAD_CUDA(cudaMemcpyAsync(to, from, width, cudaMemcpyDefault, stream));
  } else {
    POLYHEAD_CUDA(
        cudaMemcpy2DAsync(to, to_pitch, from, from_pitch, width, rows, cudaMemcpyDefault, stream));
  }
  const auto on_host = [](const void* address) {
    cudaPointerAttributes attributes;
    POLYHEAD_CUDA(cudaPointerGetAttributes(&attributes, address));
    return attributes.type != cudaMemoryTypeDevice;
  };
  if (on_host(from) || on_host(to)) Context::instance().synchronize();
}

}  // namespace polyhead
