#include "framework/comm/staging.h"

#include "framework/buffer.h"
#include "framework/device_memory.h"
#include "framework/dispatch.h"
#include "framework/error.h"

namespace polyhead {
namespace {

void copy(const void* from, void* to, const Tensor& tensor) {
  if (from == to) return;
  const std::size_t bytes = tensor.bytes();
  dispatch(tensor.device(),
           [&]<Device D>() { DeviceMemory<D>::copy_rows(from, bytes, to, bytes, bytes, 1); });
}

}  // namespace

Staging::~Staging() {
  release();
}

void* Staging::place_of(Tensor tensor) {
  if (tensor.device() == Device::kCpu) return tensor.raw();
  const std::size_t capacity = block_capacity(tensor.bytes());
  if (capacity > capacity_) {
    release();
    device_ = tensor.device();
    block_ = dispatch(device_,
                      [&]<Device D>() { return DeviceMemory<D>::allocate_page_locked(capacity); });
    if (block_ == nullptr) {
      fail(
          "the host has no room for {:.1f} MiB of page-locked memory, through which collectives of "
          "tensors on {} go here; start fewer ranks on this host, or build with NCCL and give each "
          "a GPU of its own",
          static_cast<double>(capacity) / 1048576.0, name_of(device_));
    }
    capacity_ = capacity;
  }
  return block_;
}

void Staging::load(const Tensor& tensor, void* place) {
  copy(tensor.raw(), place, tensor);
}

void Staging::store(const void* place, Tensor& tensor) {
  copy(place, tensor.raw(), tensor);
}

void Staging::release() {
  if (block_ == nullptr) return;
  dispatch(device_, [&]<Device D>() { DeviceMemory<D>::free_page_locked(block_); });
  block_ = nullptr;
  capacity_ = 0;
}

}  // namespace polyhead
