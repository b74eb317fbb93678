// Launches Hopper's attention kernels for one pair of head dimensions; each has a translation
// unit of its own. Private to framework/ops.
#pragma once

#include <cuda.h>

#include "framework/ops/attention_bf16_launch.cuh"
#include "framework/ops/attention_hopper_backward.cuh"

namespace polyhead::ops::attention_bf16 {

// The way of a tensor's boxes of (64 dimensions, one head, box_rows rows, one sequence) to and from
// panels. What its dimension lacks to a multiple of 64 reads as zeros.
inline CUtensorMap tensor_map(const Heads& heads, int head_count, int rows, int batch,
                              int box_rows) {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found{};
    POLYHEAD_CUDA(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                   cudaEnableDefault, &found));
    require(found == cudaDriverEntryPointSuccess,
            "the CUDA driver has no cuTensorMapEncodeTiled; it is older than CUDA 12");
    return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
  }();
  constexpr int kBytes = sizeof(bf16);
  const auto row_bytes = static_cast<cuuint64_t>(heads.row_stride) * kBytes;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(heads.dim),
                              static_cast<cuuint64_t>(head_count), static_cast<cuuint64_t>(rows),
                              static_cast<cuuint64_t>(batch)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(heads.head_stride) * kBytes, row_bytes,
                                row_bytes * rows};
  const cuuint32_t box[] = {64, 1, static_cast<cuuint32_t>(box_rows), 1};
  const cuuint32_t steps[] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result =
      encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, heads.data, sizes, strides, box, steps,
             CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
             CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  POLYHEAD_CHECK(result == CUDA_SUCCESS,
                 "cuTensorMapEncodeTiled: error {} for dim {}, {} heads {} apart, rows {} apart",
                 static_cast<int>(result), heads.dim, head_count, heads.head_stride,
                 heads.row_stride);
  return map;
}

template <int kQkDim, int kVDim>
void hopper_forward_pass(const Arguments& a) {
  using Shape = HopperForwardShape<kQkDim, kVDim>;
  const int groups = a.heads / a.heads_per_group;
  const ForwardMaps maps{tensor_map(a.q, a.heads, a.queries, a.batch, 64),
                         tensor_map(a.k, groups, a.keys, a.batch, Shape::kKeys),
                         tensor_map(a.v, groups, a.keys, a.batch, Shape::kKeys),
                         tensor_map(a.out, a.heads, a.queries, a.batch, 64)};
  const Schedule schedule = forward_schedule<Shape>(a, kQkDim + kVDim);
  launch("attention forward", hopper_forward_kernel<kQkDim, kVDim>,
         std::min<std::int64_t>(std::int64_t{schedule.columns} * schedule.rows,
                                resident_blocks<Shape>()),
         Shape::kThreads, Shape::kSharedBytes, a, schedule, maps);
}

template <int kQkDim, int kVDim>
void hopper_backward_pass(const Arguments& a) {
  using Shape = HopperBackwardShape<kQkDim, kVDim>;
  const int groups = a.heads / a.heads_per_group;
  const BackwardMaps maps{tensor_map(a.q, a.heads, a.queries, a.batch, Shape::kQueries),
                          tensor_map(a.k, groups, a.keys, a.batch, 64),
                          tensor_map(a.v, groups, a.keys, a.batch, 64),
                          tensor_map(a.dout, a.heads, a.queries, a.batch, Shape::kQueries),
                          tensor_map(a.dk, groups, a.keys, a.batch, 64),
                          tensor_map(a.dv, groups, a.keys, a.batch, 64)};
  sum_backward<Shape, HopperDqLayout<kQkDim, kVDim>, HopperKeyLayout<kQkDim>,
               HopperKeyLayout<kVDim>>(a, [&](const Schedule& schedule, const BackwardSums& sums) {
    const std::int64_t items = std::int64_t{schedule.columns} * schedule.rows;
    launch("attention backward", hopper_backward_kernel<kQkDim, kVDim>,
           Shape::kStays ? std::min<std::int64_t>(items, resident_blocks<Shape>()) : items,
           Shape::kThreads, Shape::kSharedBytes, a, schedule, sums, maps);
  });
}

}  // namespace polyhead::ops::attention_bf16

// Defines NAME_forward and NAME_backward of attention_bf16_instances.h.
#define POLYHEAD_HOPPER_ATTENTION_INSTANCE(name, qk_dim, v_dim) \
  namespace polyhead::ops::attention_bf16 {                     \
  void name##_forward(const Arguments& a) {                     \
    hopper_forward_pass<qk_dim, v_dim>(a);                      \
  }                                                             \
  void name##_backward(const Arguments& a) {                    \
    hopper_backward_pass<qk_dim, v_dim>(a);                     \
  }                                                             \
  }
