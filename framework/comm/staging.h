// Host memory that device tensors go through where no links between the devices move them. It is
// page-locked, so that the device copies to and from it by itself, at the speed of the bus. Kept,
// and as large as the largest tensor so far (an eighth more at most): a training step allocates
// none.
#pragma once

#include <cstddef>

#include "framework/tensor.h"

namespace polyhead {

class Staging {
 public:
  Staging() = default;
  ~Staging();
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  // Where a transport of host memory finds the contiguous tensor: its own address on the host,
  // else as many uninitialised bytes here, good until the next call. Throws Error if the host has
  // no room.
  void* place_of(Tensor tensor);

  // Between a contiguous tensor and a place for it; nothing where that is its own.
  static void load(const Tensor& tensor, void* place);
  static void store(const void* place, Tensor& tensor);

 private:
  void release();

  void* block_ = nullptr;
  std::size_t capacity_ = 0;
  Device device_ = Device::kCpu;  // that the block is page-locked for
};

}  // namespace polyhead
