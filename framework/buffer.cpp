#include "framework/buffer.h"

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "framework/error.h"

namespace polyhead {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr bool kPoisonFreshMemory =
#ifdef NDEBUG
    false;
#else
    true;
#endif
constexpr bool kKeepFreedBlocks =
#ifdef __SANITIZE_ADDRESS__
    false;
#else
    true;
#endif

std::size_t rounded(std::size_t bytes) {
  std::size_t step = kAlignment;
  if (bytes > 4096) step = std::max(step, std::bit_floor(bytes - 1) / 8);
  return std::max(step, (bytes + step - 1) / step * step);
}

class HostPool {
 public:
  void* take(std::size_t capacity) {
    const std::lock_guard lock(mutex_);
    void* block = nullptr;
    if (auto found = free_.find(capacity); found != free_.end() && !found->second.empty()) {
      block = found->second.back();
      found->second.pop_back();
    } else {
      block = std::aligned_alloc(kAlignment, capacity);
      if (block == nullptr) {
        fail(
            "out of memory: {:.1f} MiB were asked for, {:.1f} MiB are in use; lower "
            "micro_batch_size or set training.recompute",
            static_cast<double>(capacity) / 1048576.0,
            static_cast<double>(statistics_.in_use) / 1048576.0);
      }
      statistics_.reserved += capacity;
      ++statistics_.system_allocations;
    }
    statistics_.in_use += capacity;
    statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
    return block;
  }

  void give_back(void* block, std::size_t capacity) {
    const std::lock_guard lock(mutex_);
    statistics_.in_use -= capacity;
    if (kKeepFreedBlocks) {
      free_[capacity].push_back(block);
    } else {
      std::free(block);
      statistics_.reserved -= capacity;
    }
  }

  void release_unused() {
    const std::lock_guard lock(mutex_);
    for (auto& [capacity, blocks] : free_) {
      for (void* block : blocks) std::free(block);
      statistics_.reserved -= capacity * blocks.size();
    }
    free_.clear();
  }

  MemoryStatistics statistics() {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    statistics_.peak = statistics_.in_use;
  }

 private:
  std::mutex mutex_;
  std::unordered_map<std::size_t, std::vector<void*>> free_;  // by capacity, newest last
  MemoryStatistics statistics_;
};

// Never destroyed: tensors with static lifetime may outlive any other order.
HostPool& pool(Device device) {
  POLYHEAD_CHECK(device == Device::kCpu, "no memory pool for device {}", name_of(device));
  static HostPool* const host = new HostPool;
  return *host;
}

}  // namespace

Buffer::~Buffer() {
  pool(device_).give_back(data_, capacity_);
}

std::shared_ptr<Buffer> allocate_buffer(std::size_t bytes, Device device) {
  const std::size_t capacity = rounded(bytes);
  void* data = pool(device).take(capacity);
  if (kPoisonFreshMemory) std::memset(data, 0xFF, capacity);
  return std::make_shared<Buffer>(data, capacity, device);
}

MemoryStatistics memory_statistics(Device device) {
  return pool(device).statistics();
}
void reset_peak_memory(Device device) {
  pool(device).reset_peak();
}
void release_unused_memory(Device device) {
  pool(device).release_unused();
}

}  // namespace polyhead
