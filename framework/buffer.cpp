#include "framework/buffer.h"

#include <algorithm>
#include <bit>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "framework/device_memory.h"
#include "framework/dispatch.h"

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

template <Device D>
class Pool {
 public:
  void* take(std::size_t capacity) {
    const std::lock_guard lock(mutex_);
    void* block = nullptr;
    if (auto found = free_.find(capacity); found != free_.end() && !found->second.empty()) {
      block = found->second.back();
      found->second.pop_back();
    } else {
      block = DeviceMemory<D>::allocate(capacity);
      if (block == nullptr) {
        free_all();  // other shapes may have left blocks that nobody asks for any more
        block = DeviceMemory<D>::allocate(capacity);
      }
      if (block == nullptr) {
        fail(
            "out of memory on {}: {:.1f} MiB were asked for, {:.1f} MiB are in use{}; lower "
            "training.micro_batch_size or set training.recompute",
            name_of(D), static_cast<double>(capacity) / 1048576.0,
            static_cast<double>(statistics_.in_use) / 1048576.0, DeviceMemory<D>::describe_room());
      }
      statistics_.reserved += capacity;
      ++statistics_.system_allocations;
    }
    statistics_.in_use += capacity;
    statistics_.peak = std::max(statistics_.peak, statistics_.in_use);
    if (scratch_ != nullptr && scratch_->insert(block).second) ++kept_[block].keepers;
    if (const auto kept = kept_.find(block); kept != kept_.end()) kept->second.in_use = true;
    return block;
  }

  void give_back(void* block, std::size_t capacity) {
    const std::lock_guard lock(mutex_);
    statistics_.in_use -= capacity;
    const auto kept = kept_.find(block);
    if (kept != kept_.end()) kept->second.in_use = false;
    if (kKeepFreedBlocks || kept != kept_.end()) {
      free_[capacity].push_back(block);
    } else {
      DeviceMemory<D>::free(block);
      statistics_.reserved -= capacity;
    }
  }

  void release_unused() {
    const std::lock_guard lock(mutex_);
    free_all();
  }

  MemoryStatistics statistics() {
    const std::lock_guard lock(mutex_);
    return statistics_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    statistics_.peak = statistics_.in_use;
  }

  // Until it is null again, what is handed out is entered in `scratch` and kept.
  void enter_in(std::unordered_set<void*>* scratch) {
    const std::lock_guard lock(mutex_);
    POLYHEAD_CHECK(scratch == nullptr || scratch_ == nullptr, "scratch is being entered already");
    scratch_ = scratch;
  }

  bool at_rest(const std::unordered_set<void*>& scratch) {
    const std::lock_guard lock(mutex_);
    return std::ranges::none_of(scratch, [&](void* block) { return kept_.at(block).in_use; });
  }

  void release(const std::unordered_set<void*>& scratch) {
    const std::lock_guard lock(mutex_);
    for (void* block : scratch) {
      if (--kept_.at(block).keepers == 0) kept_.erase(block);
    }
  }

 private:
  struct Kept {
    int keepers = 0;
    bool in_use = false;
  };

  void free_all() {
    for (auto& [capacity, blocks] : free_) {
      const auto kept = std::partition(blocks.begin(), blocks.end(),
                                       [&](void* block) { return kept_.contains(block); });
      std::for_each(kept, blocks.end(), DeviceMemory<D>::free);
      statistics_.reserved -= capacity * static_cast<std::size_t>(blocks.end() - kept);
      blocks.erase(kept, blocks.end());
    }
  }

  std::mutex mutex_;
  std::unordered_map<std::size_t, std::vector<void*>> free_;  // by capacity, newest last
  std::unordered_map<void*, Kept> kept_;                      // for recorded work
  std::unordered_set<void*>* scratch_ = nullptr;              // of the work that is being recorded
  MemoryStatistics statistics_;
};

// Never destroyed: tensors with static lifetime may outlive any other order.
template <Device D>
Pool<D>& pool() {
  static Pool<D>* const instance = new Pool<D>;
  return *instance;
}

}  // namespace

std::size_t block_capacity(std::size_t bytes) {
  std::size_t step = kAlignment;
  if (bytes > 4096) step = std::max(step, std::bit_floor(bytes - 1) / 8);
  return std::max(step, (bytes + step - 1) / step * step);
}

Buffer::~Buffer() {
  dispatch(device_, [&]<Device D>() { pool<D>().give_back(data_, capacity_); });
}

std::shared_ptr<Buffer> allocate_buffer(std::size_t bytes, Device device) {
  const std::size_t capacity = block_capacity(bytes);
  return dispatch(device, [&]<Device D>() {
    void* data = pool<D>().take(capacity);
    if (kPoisonFreshMemory) DeviceMemory<D>::set_bytes(data, 0xFF, capacity);
    return std::make_shared<Buffer>(data, capacity, device);
  });
}

MemoryStatistics memory_statistics(Device device) {
  return dispatch(device, []<Device D>() { return pool<D>().statistics(); });
}
void reset_peak_memory(Device device) {
  dispatch(device, []<Device D>() { pool<D>().reset_peak(); });
}
void release_unused_memory(Device device) {
  dispatch(device, []<Device D>() { pool<D>().release_unused(); });
}

ScratchBlocks::ScratchBlocks(Device device) : device_(device) {
  dispatch(device_, [&]<Device D>() { pool<D>().enter_in(&blocks_); });
}
ScratchBlocks::~ScratchBlocks() {
  close();
  dispatch(device_, [&]<Device D>() { pool<D>().release(blocks_); });
}
void ScratchBlocks::close() {
  if (!open_) return;
  open_ = false;
  dispatch(device_, []<Device D>() { pool<D>().enter_in(nullptr); });
}
bool ScratchBlocks::at_rest() const {
  return dispatch(device_, [&]<Device D>() { return pool<D>().at_rest(blocks_); });
}

}  // namespace polyhead
