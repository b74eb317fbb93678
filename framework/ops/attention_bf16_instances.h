// The pairs of head dimensions that the bf16 attention kernels are compiled for; others are padded
// with zeros, in shared memory only. Private to framework/ops.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>

#include "framework/error.h"

namespace polyhead::ops::attention_bf16 {

struct Arguments;

struct HeadDims {
  int qk, v;

  friend bool operator==(const HeadDims&, const HeadDims&) = default;
};
inline constexpr std::array<HeadDims, 5> kCompiledDims = {
    {{64, 64}, {96, 96}, {128, 128}, {192, 128}, {256, 256}}};

// The smallest pair that holds the head dimensions.
inline HeadDims compiled_dims(std::int64_t qk_dim, std::int64_t v_dim) {
  const auto* const found = std::ranges::find_if(
      kCompiledDims, [&](const HeadDims& dims) { return qk_dim <= dims.qk && v_dim <= dims.v; });
  require(found != kCompiledDims.end(),
          "attention on CUDA takes head dimensions up to 256, not {} and {}", qk_dim, v_dim);
  return *found;
}

// Queries and keys of a block of the backward. Memory for sums over keys is a multiple of
// kKeyPadding rows, whatever the block.
inline constexpr int kRowBlock = 64, kHopperBackwardKeys = 128, kKeyPadding = 128;
constexpr int backward_keys(HeadDims dims) {
  return dims.qk >= 128 && dims.v <= 128 ? 128 : 64;
}

// `general`: soft-cap, ALiBi, documents, a scale <= 0 or addresses that are not aligned, whose code
// the common path is spared. The backward wants the statistics of rows to be there.
void d64_forward(const Arguments& a, bool general);
void d64_backward(const Arguments& a, bool general);
void d96_forward(const Arguments& a, bool general);
void d96_backward(const Arguments& a, bool general);
void d128_forward(const Arguments& a, bool general);
void d128_backward(const Arguments& a, bool general);
void d192_v128_forward(const Arguments& a, bool general);
void d192_v128_backward(const Arguments& a, bool general);
void d256_forward(const Arguments& a, bool general);
void d256_backward(const Arguments& a, bool general);

// For Hopper, without the general code.
void hopper_d64_forward(const Arguments& a);
void hopper_d64_backward(const Arguments& a);
void hopper_d128_forward(const Arguments& a);
void hopper_d128_backward(const Arguments& a);
void hopper_d192_v128_forward(const Arguments& a);
void hopper_d192_v128_backward(const Arguments& a);

}  // namespace polyhead::ops::attention_bf16
