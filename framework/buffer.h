// Storage of tensors: blocks from a pool that keeps what it freed.
//
// A training step asks for the same sizes in the same order every time, so after the first step the
// pool serves it without asking the system for memory, and at the same addresses. Blocks are
// aligned to 64 bytes. Freed blocks are reused only for requests of the same rounded size (64 bytes
// up to 4 KiB, then an eighth of a power of two: at most 12.5 % waste). Under AddressSanitizer the
// pool passes every request to the system, so that overruns are found.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <unordered_set>

#include "framework/device.h"
#include "framework/dtype.h"

namespace polyhead {

class Buffer {
 public:
  Buffer(void* data, std::size_t capacity, Device device)
      : data_(data), capacity_(capacity), device_(device) {}
  ~Buffer();  // gives the block back to the pool
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  void* data() const { return data_; }
  std::size_t capacity() const { return capacity_; }
  Device device() const { return device_; }

 private:
  void* data_;
  std::size_t capacity_;
  Device device_;
};

// What a request for so many bytes takes: the rounded size, which the statistics count.
std::size_t block_capacity(std::size_t bytes);
// Of a tensor of its own.
inline std::int64_t tensor_capacity(std::int64_t elements, DType dtype) {
  return static_cast<std::int64_t>(
      block_capacity(static_cast<std::size_t>(elements) * size_of(dtype)));
}

// Uninitialised memory; in builds without NDEBUG every byte is 0xFF, a NaN in any float type.
std::shared_ptr<Buffer> allocate_buffer(std::size_t bytes, Device device);

struct MemoryStatistics {
  std::size_t in_use = 0;               // bytes handed out now
  std::size_t peak = 0;                 // the most bytes handed out at once since reset_peak_memory
  std::size_t reserved = 0;             // bytes held from the system, free blocks included
  std::int64_t system_allocations = 0;  // how often the system was asked
};
MemoryStatistics memory_statistics(Device device);
void reset_peak_memory(Device device);

// Returns free blocks to the system, e.g. after an evaluation with other shapes.
void release_unused_memory(Device device);

// The blocks that the pool hands out from construction to close(), by any thread: the scratch of
// recorded work. While this lives they never go back to the system.
class ScratchBlocks {
 public:
  explicit ScratchBlocks(Device device);
  ~ScratchBlocks();
  ScratchBlocks(const ScratchBlocks&) = delete;
  ScratchBlocks& operator=(const ScratchBlocks&) = delete;

  void close();
  // Whether none of them belongs to a tensor now.
  bool at_rest() const;

 private:
  Device device_;
  bool open_ = true;
  std::unordered_set<void*> blocks_;
};

}  // namespace polyhead
