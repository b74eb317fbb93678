// Launches the bf16 attention kernels for one pair of head dimensions; each pair has a translation
// unit of its own. Private to framework/ops.
#pragma once

#include <algorithm>

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/cuda/launch.cuh"
#include "framework/error.h"
#include "framework/ops/attention_bf16_forward.cuh"
#include "framework/ops/attention_bf16_gradients.cuh"
#include "framework/ops/attention_bf16_instances.h"
#include "framework/tensor.h"

namespace polyhead::ops::attention_bf16 {

inline constexpr std::int64_t kMaxBlocks = std::int64_t{1} << 31;

template <class... Parameters, class... Values>
void launch(const char* name, void (*kernel)(Parameters...), std::int64_t blocks, int threads,
            int shared_bytes, const Values&... values) {
  POLYHEAD_CHECK(blocks < kMaxBlocks, "{}: {} blocks", name, blocks);
  POLYHEAD_CUDA(
      cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, shared_bytes));
  cuda::launch(name, kernel, static_cast<unsigned>(blocks), static_cast<unsigned>(threads),
               static_cast<std::size_t>(shared_bytes), values...);
}

// How many stages of copies fit the device's shared memory: two, or on smaller devices one.
template <class Shape>
int stages_of(const char* name) {
  const auto limit = static_cast<int>(cuda::Context::instance().shared_bytes_of_block());
  require(Shape::shared_bytes(1) <= limit,
          "{} with these head dimensions needs {} bytes of shared memory, the device {} has {}",
          name, Shape::shared_bytes(1), cuda::Context::instance().name(), limit);
  return Shape::shared_bytes(2) <= limit ? 2 : 1;
}

inline int blocks_of(int rows, int block) {
  return (rows + block - 1) / block;
}
template <class Shape>
int resident_blocks() {
  return cuda::Context::instance().multiprocessors() * Shape::kBlocks;
}

// `column_bytes`: what the blocks of a column read or add to. `min_sections`: if there are as many
// columns.
inline Schedule schedule_of(int columns, int rows, std::int64_t column_bytes, int resident,
                            int min_sections) {
  constexpr std::int64_t kCacheBytes = std::int64_t{12} << 20;  // of an H100's 50 MiB of L2
  // Twice the resident blocks at least, for short work to fill the gaps that long work leaves.
  const std::int64_t section =
      std::max<std::int64_t>({1, kCacheBytes / column_bytes, blocks_of(2 * resident, rows)});
  const std::int64_t sections = std::max<std::int64_t>(min_sections, columns / section);
  return {columns, rows, static_cast<int>(std::min<std::int64_t>(sections, columns))};
}

// `dims`: of a key and a value together.
template <class Shape>
Schedule forward_schedule(const Arguments& a, int dims) {
  const std::int64_t keys_at_once = std::min(a.keys, a.reach_back + Shape::kQueries);
  return schedule_of(a.batch * a.heads, blocks_of(a.queries, Shape::kQueries),
                     1 + keys_at_once * 2 * dims / a.heads_per_group, resident_blocks<Shape>(), 1);
}

template <int kQkDim, int kVDim, bool kGeneral>
void forward_pass(const Arguments& a) {
  using Shape = ForwardShape<kQkDim, kVDim>;
  constexpr const char* kName = "attention forward";
  const int stages = stages_of<Shape>(kName);
  const Schedule schedule = forward_schedule<Shape>(a, kQkDim + kVDim);
  launch(kName, forward_kernel<kQkDim, kVDim, kGeneral>,
         std::int64_t{schedule.columns} * schedule.rows, Shape::kThreads,
         Shape::shared_bytes(stages), a, schedule, stages);
}

template <class Layout>
void finish_gradient(const Arguments& a, const GradientSums& sums, const Heads& gradient) {
  launch("attention backward, gradient", gradient_kernel<Layout>,
         std::int64_t{a.batch} * sums.heads * sums.blocks, Layout::kThreads,
         Tile<Layout::kRows, Layout::kDim>::kBytes, sums, gradient);
}

// Gives sweep(schedule, sums) the memory for its sums, which lie as the layouts say, and makes dq,
// and of shared keys dk and dv, of them.
template <class Shape, class DqLayout, class DkLayout, class DvLayout, class Sweep>
void sum_backward(const Arguments& a, const Sweep& sweep) {
  constexpr int kQkDim = DqLayout::kDim, kVDim = DvLayout::kDim;
  const int groups = a.heads / a.heads_per_group;
  const int key_blocks = blocks_of(a.keys, Shape::kKeys);
  const int query_blocks = a.padded_queries / Shape::kQueries;

  const std::int64_t dq_blocks = std::int64_t{a.batch} * a.heads * query_blocks;
  const std::int64_t part_blocks = std::int64_t{a.batch} * groups * key_blocks;
  const auto floats = [](std::int64_t count) {
    return Tensor::empty({count}, DType::kF32, Device::kCuda);
  };
  const std::int64_t dk_part = part_blocks * Shape::kKeys * kQkDim;
  const std::int64_t dv_part = part_blocks * Shape::kKeys * kVDim;
  Tensor dq = floats(dq_blocks * Shape::kQueries * kQkDim), dk, dv;
  Tensor turns = Tensor::zeros({1 + dq_blocks}, DType::kI32, Device::kCuda);
  BackwardSums sums{};
  sums.dq = dq.data<float>();
  sums.ticket = turns.data<std::int32_t>();
  sums.turns = sums.ticket + 1;
  if (a.heads_per_group > 1) {
    const std::int64_t rows =
        std::int64_t{a.batch} * a.heads * blocks_of(a.keys, kKeyPadding) * kKeyPadding;
    dk = floats(rows * kQkDim);
    dv = floats(rows * kVDim);
    sums.dk = dk.data<float>();
    sums.dv = dv.data<float>();
  }

  const std::int64_t bytes = std::int64_t{a.queries} * (6 * kQkDim + 2 * kVDim);
  sweep(schedule_of(a.batch * a.heads, key_blocks, bytes, resident_blocks<Shape>(), 2), sums);

  finish_gradient<DqLayout>(
      a,
      {sums.dq, sums.turns, 1, 0, a.heads, query_blocks, a.queries, a.scale, a.angles, a.aligned},
      a.dq);
  if (a.heads_per_group > 1) {
    const int parts = a.heads_per_group;
    finish_gradient<DkLayout>(a,
                              {sums.dk, nullptr, parts, dk_part, groups, key_blocks, a.keys,
                               a.scale, a.angles, a.aligned},
                              a.dk);
    finish_gradient<DvLayout>(
        a, {sums.dv, nullptr, parts, dv_part, groups, key_blocks, a.keys, 1.0f, {}, a.aligned},
        a.dv);
  }
}

template <int kQkDim, int kVDim, bool kGeneral>
void backward_pass(const Arguments& a) {
  using Shape = BackwardShape<kQkDim, kVDim>;
  constexpr const char* kName = "attention backward";
  const int stages = stages_of<Shape>(kName);
  sum_backward<Shape, TurnsLayout<Shape::kQueries, kQkDim, Shape::kWarps>,
               TurnsLayout<Shape::kKeys, kQkDim, Shape::kWarps>,
               TurnsLayout<Shape::kKeys, kVDim, Shape::kWarps>>(
      a, [&](const Schedule& schedule, const BackwardSums& sums) {
        launch(kName, backward_kernel<kQkDim, kVDim, kGeneral>,
               std::int64_t{schedule.columns} * schedule.rows, Shape::kThreads,
               Shape::shared_bytes(stages), a, schedule, sums, stages);
      });
}

}  // namespace polyhead::ops::attention_bf16

// Defines NAME_forward and NAME_backward of attention_bf16_instances.h.
#define POLYHEAD_ATTENTION_INSTANCE(name, qk_dim, v_dim)                                      \
  namespace polyhead::ops::attention_bf16 {                                                   \
  void name##_forward(const Arguments& a, bool general) {                                     \
    general ? forward_pass<qk_dim, v_dim, true>(a) : forward_pass<qk_dim, v_dim, false>(a);   \
  }                                                                                           \
  void name##_backward(const Arguments& a, bool general) {                                    \
    general ? backward_pass<qk_dim, v_dim, true>(a) : backward_pass<qk_dim, v_dim, false>(a); \
  }                                                                                           \
  }
