// Launches the bf16 attention kernels for one pair of head dimensions; each pair has a translation
// unit of its own. Private to framework/ops.
#pragma once

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/ops/attention_bf16_backward.cuh"
#include "framework/ops/attention_bf16_forward.cuh"
#include "framework/ops/attention_bf16_instances.h"

namespace polyhead::ops::attention_bf16 {

template <class Kernel>
void launch(Kernel* kernel, dim3 grid, int threads, std::size_t shared_bytes, const Arguments& a,
            const char* name) {
  POLYHEAD_CUDA(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                     static_cast<int>(shared_bytes)));
  kernel<<<grid, threads, shared_bytes, cuda::Context::instance().stream()>>>(a);
  cuda::check_launch(name);
}

inline unsigned blocks_of(int rows, int block) {
  return static_cast<unsigned>((rows + block - 1) / block);
}

template <int kQkDim, int kVDim, bool kExtras>
void forward_pass(const Arguments& a, int batch) {
  constexpr int kM = kVDim > 128 ? 1 : 2;
  constexpr std::size_t kShared =
      sizeof(bf16) * (Tile<64 * kM, kQkDim>::kElements + Tile<kForwardKeys, kQkDim>::kElements +
                      Tile<kForwardKeys, kVDim>::kElements);
  const dim3 grid(blocks_of(a.queries, 64 * kM), static_cast<unsigned>(a.heads),
                  static_cast<unsigned>(batch));
  launch(forward_kernel<kQkDim, kVDim, kM, kExtras>, grid, kForwardThreads, kShared, a,
         "attention forward");
}

template <int kQkDim, int kVDim, int kQueries, Gradients kWhat, bool kExtras>
void keys_pass(const Arguments& a, int batch) {
  constexpr std::size_t kShared =
      sizeof(bf16) * (Tile<kBlockKeys, kQkDim>::kElements + Tile<kBlockKeys, kVDim>::kElements +
                      Tile<kQueries, kQkDim>::kElements + Tile<kQueries, kVDim>::kElements);
  const dim3 grid(blocks_of(a.keys, kBlockKeys), static_cast<unsigned>(a.heads / a.heads_per_group),
                  static_cast<unsigned>(batch));
  launch(keys_kernel<kQkDim, kVDim, kQueries, kWhat, kExtras>, grid, kBackwardThreads, kShared, a,
         "attention backward, keys");
}

template <int kQkDim, int kVDim, bool kExtras>
void backward_pass(const Arguments& a, int batch) {
  const std::int64_t rows = static_cast<std::int64_t>(batch) * a.queries;
  delta_kernel<<<static_cast<unsigned>((rows * a.heads + 7) / 8), 256, 0,
                 cuda::Context::instance().stream()>>>(a, rows);
  cuda::check_launch("attention backward, delta");
  if constexpr (kVDim > 128) {
    keys_pass<kQkDim, kVDim, 32, Gradients::kKeys, kExtras>(a, batch);
    keys_pass<kQkDim, kVDim, 32, Gradients::kValues, kExtras>(a, batch);
  } else {
    constexpr int kQueries = kQkDim > 128 ? 32 : 64;
    keys_pass<kQkDim, kVDim, kQueries, Gradients::kBoth, kExtras>(a, batch);
  }
  constexpr int kM = kQkDim > 128 ? 1 : 2, kKeys = kQkDim > 64 ? 32 : 64;
  constexpr std::size_t kShared =
      sizeof(bf16) * (Tile<64 * kM, kQkDim>::kElements + Tile<64 * kM, kVDim>::kElements +
                      Tile<kKeys, kQkDim>::kElements + Tile<kKeys, kVDim>::kElements);
  const dim3 grid(blocks_of(a.queries, 64 * kM), static_cast<unsigned>(a.heads),
                  static_cast<unsigned>(batch));
  launch(queries_kernel<kQkDim, kVDim, kM, kKeys, kExtras>, grid, kBackwardThreads, kShared, a,
         "attention backward, queries");
}

}  // namespace polyhead::ops::attention_bf16

// Defines NAME_forward and NAME_backward of attention_bf16_instances.h.
#define POLYHEAD_ATTENTION_INSTANCE(name, qk_dim, v_dim)             \
  namespace polyhead::ops::attention_bf16 {                          \
  void name##_forward(const Arguments& a, int batch, bool extras) {  \
    extras ? forward_pass<qk_dim, v_dim, true>(a, batch)             \
           : forward_pass<qk_dim, v_dim, false>(a, batch);           \
  }                                                                  \
  void name##_backward(const Arguments& a, int batch, bool extras) { \
    extras ? backward_pass<qk_dim, v_dim, true>(a, batch)            \
           : backward_pass<qk_dim, v_dim, false>(a, batch);          \
  }                                                                  \
  }
