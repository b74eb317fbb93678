// The working memory of attention's backward, known before it runs.
#pragma once

#include <cstdint>

#include "framework/ops/attention.h"

namespace polyhead::ops {

// Of one call: sequences, their tokens, and this rank's heads.
struct AttentionExtent {
  std::int64_t batch, length;
  std::int64_t heads, groups;
  std::int64_t qk_dim, v_dim;
};

// Bytes that the pool hands out beside the operands. `threads` matters on the CPU, `spec` for its
// window. Throws Error where CUDA has no kernel for the head dimensions.
std::int64_t attention_backward_bytes(const AttentionExtent& extent, const AttentionSpec& spec,
                                      DType dtype, Device device, int threads);

}  // namespace polyhead::ops
