// The memory of one device: what Buffer and Tensor are made of. Specialised in
// device_memory_cpu.cpp and cuda/device_memory.cpp.
#pragma once

#include <cstddef>
#include <string>

#include "framework/device.h"

namespace polyhead {

template <Device D>
struct DeviceMemory {
  // Null if the system has no room. Aligned to 64 bytes on the host, 256 on CUDA.
  static void* allocate(std::size_t bytes);
  static void free(void* data);
  // Host memory that the device can copy to and from by itself (on the host: any). Null if the
  // system has no room.
  static void* allocate_page_locked(std::size_t bytes);
  static void free_page_locked(void* data) noexcept;
  // For the message when memory is short: " of 79.1 GiB, of which 1.2 GiB are free", or empty.
  static std::string describe_room();

  // In the order of the device's other work; the host does not wait.
  static void set_bytes(void* data, unsigned char value, std::size_t bytes);
  // `rows` runs of `width` bytes that lie `from_pitch` and `to_pitch` apart. Either side of CUDA's
  // may be host memory; `to` on the host has been written when the call returns, and `from` on the
  // host may be changed then.
  static void copy_rows(const void* from, std::size_t from_pitch, void* to, std::size_t to_pitch,
                        std::size_t width, std::size_t rows);
};

}  // namespace polyhead
