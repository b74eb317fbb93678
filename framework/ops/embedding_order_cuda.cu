#include <bit>
#include <cub/device/device_radix_sort.cuh>

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/ops/embedding_order.h"

namespace polyhead::ops::kernel {
namespace {

__global__ void pick_kernel(const std::int32_t* ids, std::int64_t count, std::int64_t first_id,
                            std::int64_t valid_rows, std::int32_t* rows, std::int32_t* tokens) {
  const std::int64_t token = static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (token >= count) return;
  const std::int64_t row = ids[token] - first_id;
  const bool here = row >= 0 && row < valid_rows;
  rows[token] = static_cast<std::int32_t>(here ? row : valid_rows);
  tokens[token] = static_cast<std::int32_t>(token);
}

}  // namespace

TokenOrder order_by_row(const Tensor& ids, std::int64_t first_id, std::int64_t valid_rows) {
  const std::int64_t count = ids.numel();
  const cudaStream_t stream = cuda::Context::instance().stream();
  const auto empty = [&] { return Tensor::empty({count}, DType::kI32, Device::kCuda); };
  Tensor rows = empty(), tokens = empty();
  TokenOrder order{empty(), empty()};
  constexpr int kThreads = 256;
  pick_kernel<<<static_cast<unsigned>((count + kThreads - 1) / kThreads), kThreads, 0, stream>>>(
      ids.data<std::int32_t>(), count, first_id, valid_rows, rows.data<std::int32_t>(),
      tokens.data<std::int32_t>());
  cuda::check_launch("embedding_backward: rows of tokens");

  const auto sort = [&](void* workspace, std::size_t& bytes) {
    POLYHEAD_CUDA(cub::DeviceRadixSort::SortPairs(
        workspace, bytes, rows.data<std::int32_t>(), order.rows.data<std::int32_t>(),
        tokens.data<std::int32_t>(), order.tokens.data<std::int32_t>(), static_cast<int>(count), 0,
        std::bit_width(static_cast<std::uint64_t>(valid_rows)), stream));
  };
  std::size_t bytes = 0;
  sort(nullptr, bytes);
  const auto words = static_cast<std::int64_t>(bytes / sizeof(std::int32_t) + 1);
  Tensor workspace = Tensor::empty({words}, DType::kI32, Device::kCuda);
  sort(workspace.raw(), bytes);
  return order;
}

}  // namespace polyhead::ops::kernel
