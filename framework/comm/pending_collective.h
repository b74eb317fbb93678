// A collective that was started and whose result is not to be touched yet.
#pragma once

#include <array>
#include <functional>
#include <utility>

#include "framework/tensor.h"

namespace polyhead {

// Until wait() returns, nobody else reads what the collective writes or writes what it reads. The
// host does not wait: on the device the work enqueued later does. Ends by itself where it is
// dropped, so no memory goes back to the pool while messages still use it.
class PendingCollective {
 public:
  PendingCollective() = default;  // has ended
  // `join` puts the device's later work behind the collective, which uses `tensors`; it is called
  // once.
  PendingCollective(std::function<void()> join, std::array<Tensor, 2> tensors)
      : join_(std::move(join)), tensors_(std::move(tensors)) {}
  PendingCollective(PendingCollective&& other) noexcept
      : join_(std::exchange(other.join_, nullptr)), tensors_(std::move(other.tensors_)) {}
  PendingCollective& operator=(PendingCollective&& other) noexcept {
    std::swap(join_, other.join_);
    std::swap(tensors_, other.tensors_);
    return *this;
  }
  ~PendingCollective();

  void wait();

 private:
  std::function<void()> join_;  // null once it has ended
  std::array<Tensor, 2> tensors_;
};

}  // namespace polyhead
