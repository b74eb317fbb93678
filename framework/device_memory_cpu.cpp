#include <cstdlib>
#include <cstring>

#include "framework/device_memory.h"

namespace polyhead {

template <>
void* DeviceMemory<Device::kCpu>::allocate(std::size_t bytes) {
  return std::aligned_alloc(64, bytes);
}

template <>
void DeviceMemory<Device::kCpu>::free(void* data) {
  std::free(data);
}

template <>
void* DeviceMemory<Device::kCpu>::allocate_page_locked(std::size_t bytes) {
  return allocate(bytes);
}

template <>
void DeviceMemory<Device::kCpu>::free_page_locked(void* data) noexcept {
  free(data);
}

template <>
std::string DeviceMemory<Device::kCpu>::describe_room() {
  return "";
}

template <>
void DeviceMemory<Device::kCpu>::set_bytes(void* data, unsigned char value, std::size_t bytes) {
  std::memset(data, value, bytes);
}

template <>
void DeviceMemory<Device::kCpu>::copy_rows(const void* from, std::size_t from_pitch, void* to,
                                           std::size_t to_pitch, std::size_t width,
                                           std::size_t rows) {
  for (std::size_t row = 0; row < rows; ++row) {
    std::memcpy(static_cast<std::byte*>(to) + row * to_pitch,
                static_cast<const std::byte*>(from) + row * from_pitch, width);
  }
}

}  // namespace polyhead
