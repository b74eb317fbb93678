#include "framework/ops/attention_memory.h"

#include "framework/buffer.h"
#include "framework/dispatch.h"
#include "framework/ops/attention_bf16_instances.h"
#include "framework/ops/attention_runs.h"

namespace polyhead::ops {
namespace {

std::int64_t cpu_bytes(const AttentionExtent& x, const AttentionSpec& spec, DType dtype,
                       int threads) {
  return dispatch_cpu_float(dtype, [&]<class T>() {
    const std::int64_t pairs = x.batch * x.groups;
    const std::int64_t rows = pairs * partial_rows(cut_into_runs(spec, pairs, x.length, x.length));
    return tensor_capacity(rows * simd::round_up_to_width<T>(x.qk_dim), dtype) +
           tensor_capacity(rows * simd::round_up_to_width<T>(x.v_dim), dtype) +
           tensor_capacity(threads * backward_thread_elements<T>(x.qk_dim, x.v_dim), dtype);
  });
}

std::int64_t cuda_f32_bytes(const AttentionExtent& x) {
  return tensor_capacity(x.batch * x.heads * x.length, DType::kF32);
}

// dq is summed over the blocks of keys, dk and dv over the heads of a group, all in f32.
std::int64_t cuda_bf16_bytes(const AttentionExtent& x) {
  using namespace attention_bf16;
  const HeadDims dims = compiled_dims(x.qk_dim, x.v_dim);
  const auto blocks_of = [&](int rows) { return (x.length + rows - 1) / rows; };
  const std::int64_t query_blocks = x.batch * x.heads * blocks_of(kRowBlock);
  std::int64_t bytes = tensor_capacity(2 * query_blocks * kRowBlock, DType::kF32) +
                       tensor_capacity(query_blocks * kRowBlock * dims.qk, DType::kF32) +
                       tensor_capacity(1 + query_blocks, DType::kI32);
  if (x.heads > x.groups) {
    const std::int64_t rows = x.batch * x.heads * blocks_of(kKeyPadding) * kKeyPadding;
    bytes +=
        tensor_capacity(rows * dims.qk, DType::kF32) + tensor_capacity(rows * dims.v, DType::kF32);
  }
  return bytes;
}

}  // namespace

std::int64_t attention_backward_bytes(const AttentionExtent& extent, const AttentionSpec& spec,
                                      DType dtype, Device device, int threads) {
  if (device == Device::kCpu) return cpu_bytes(extent, spec, dtype, threads);
  return dtype == DType::kF32 ? cuda_f32_bytes(extent) : cuda_bf16_bytes(extent);
}

}  // namespace polyhead::ops
