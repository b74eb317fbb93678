#include "scripts/peak_rate.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "framework/ops/matmul.h"

namespace polyhead {
namespace {

double best_seconds(const Communicator& world, const Compute& compute, std::int64_t size) {
  using Clock = std::chrono::steady_clock;
  // Zeros cost a processor what other numbers do; a GPU multiplies them a little faster.
  const Tensor a = Tensor::zeros({size, size}, compute.dtype, compute.device);
  const Tensor b = Tensor::zeros_like(a);
  Tensor c = Tensor::zeros_like(a);
  const auto wait = [&] { c.row_slice(0, 1).to(Device::kCpu); };
  double best = std::numeric_limits<double>::infinity();
  for (int round = 0; round < 3; ++round) {
    world.barrier();
    wait();
    const Clock::time_point begin = Clock::now();
    ops::matmul_weight(a, b, c);
    wait();
    best = std::min(best, std::chrono::duration<double>(Clock::now() - begin).count());
  }
  return best;
}

}  // namespace

double measured_peak_rate(const Communicator& world, const Compute& compute) {
  const std::int64_t size = compute.device == Device::kCpu ? 1024 : 8192;
  const auto edge = static_cast<double>(size);
  Tensor rate = Tensor::empty({1}, DType::kF64);
  rate.data<double>()[0] = 2.0 * edge * edge * edge / best_seconds(world, compute, size);
  world.all_reduce(rate);
  // No part of what the run needs.
  release_unused_memory(compute.device);
  reset_peak_memory(compute.device);
  return rate.data<double>()[0];
}

}  // namespace polyhead
