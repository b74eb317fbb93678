// Arguments of the bf16 attention kernels, which pairs they visit, and in which order. Private to
// framework/ops.
#pragma once

#include "framework/ops/attention_bf16_instances.h"
#include "framework/ops/attention_mma.cuh"

namespace polyhead::ops::attention_bf16 {

// Element (row n, head h, dimension d) lies at data[n * row_stride + h * head_stride + d].
struct Heads {
  bf16* data;
  std::int64_t row_stride, head_stride;
  int dim;

  __device__ __forceinline__ bf16* at(std::int64_t row, int head) const {
    return data + row * row_stride + head * head_stride;
  }
};

// Of a rotary embedding, (positions, half).
struct Angles {
  const float *cos, *sin;
  int half;  // of the rotated dimensions, a multiple of 8; 0: nothing is to be rotated
};

struct Arguments {
  Heads q, k, v, out;      // out: forward writes it
  Heads dout, dq, dk, dv;  // backward
  float* lse;              // (B, H, Tq)
  // Backward, (B, H, padded_queries): lse times log2(e), where rows without a key and rows behind
  // the last have +infinity, so that their weights come out as 0; and the sum of dout * out.
  float *row_lse, *row_delta;
  int padded_queries;  // queries rounded up to kRowBlock
  int batch, queries, keys, heads, heads_per_group;
  float scale;
  int reach_back;             // a query sees the keys at positions > its own - reach_back
  int reach_ahead;            // ... and < its own + reach_ahead
  float softcap;              // 0: none
  const float* slopes;        // (H), or null
  const int* document_start;  // (B * Tq), or null
  int query_offset;
  Angles angles;  // that dq and dk are turned back by
  bool aligned;   // every pointer, stride and dimension is a multiple of 16 bytes
};

inline constexpr int kUnlimited = 1 << 25;  // beyond any position
using cuda::kLog2E;
inline constexpr float kLn2 = 0.6931471805599453f;
inline constexpr float kInfinity = __builtin_huge_valf();

// Keys [begin, end) that a query at an absolute position sees, documents aside. Both ends grow with
// the position.
struct KeyRange {
  int begin, end;
};
__device__ __forceinline__ KeyRange visible_keys(const Arguments& a, int position) {
  return {max(0, position - a.reach_back + 1), min(a.keys, position + a.reach_ahead)};
}

// The other way: queries [begin, end) that see a key, before the first and behind the last too.
struct QueryRange {
  int begin, end;
};
__device__ __forceinline__ QueryRange queries_that_see(const Arguments& a, int key) {
  const int begin = key - a.reach_ahead + 1 - a.query_offset;
  return {begin, key < a.keys ? key + a.reach_back - a.query_offset : begin};
}

// Whether queries at positions [first, last] all see the keys [begin, end).
__device__ __forceinline__ bool all_visible(const Arguments& a, int first, int last, int begin,
                                            int end) {
  return begin >= visible_keys(a, last).begin && end <= visible_keys(a, first).end &&
         a.document_start == nullptr;
}

// The first key of its document for a query of a sequence.
__device__ __forceinline__ int document_of(const Arguments& a, int batch, int query) {
  if (a.document_start == nullptr || query >= a.queries) return 0;
  return a.document_start[static_cast<std::int64_t>(batch) * a.queries + query];
}

// What becomes of q . k, in units of log2, with soft-cap and ALiBi.
struct ScoreOptions {
  __device__ __forceinline__ ScoreOptions(const Arguments& a, int head)
      : to_log2(a.scale * kLog2E),
        cap(a.softcap * kLog2E),
        to_cap(a.softcap > 0 ? a.scale / a.softcap : 0.0f),
        slope(a.slopes != nullptr ? a.slopes[head] * kLog2E : 0.0f) {}

  // `derivative` is that of the soft-cap.
  __device__ __forceinline__ float score(float product, int distance, float& derivative) const {
    float score = product * to_log2;
    derivative = 1.0f;
    if (cap > 0) {
      // 1 - 2 / (1 + e^2x): its error is absolute, which is what the exponential asks for.
      const float tanh =
          1.0f - __fdividef(2.0f, 1.0f + power_of_two(2 * kLog2E * to_cap * product));
      score = cap * tanh;
      derivative = 1.0f - tanh * tanh;
    }
    return score - slope * fabsf(static_cast<float>(distance));
  }

  float to_log2, cap, to_cap, slope;
};

// Order of work: `columns` (of heads) times `rows` (blocks of a sequence). The columns are cut into
// sections, small enough that what a section reads stays in the L2 cache; a section goes row by
// row.
struct Schedule {
  int columns, rows, sections;

  struct Item {
    int column, row;
    bool last_section;
  };
  __device__ __forceinline__ Item at(int index) const {
    const int column = index / rows;  // if columns came one by one
    const auto section = static_cast<int>((std::int64_t{column + 1} * sections - 1) / columns);
    const int first = first_column(section), width = first_column(section + 1) - first;
    const int within = index - first * rows;
    return {first + within % width, within / width, section == sections - 1};
  }
  __device__ __forceinline__ int first_column(int section) const {
    return static_cast<int>(std::int64_t{section} * columns / sections);
  }
};

}  // namespace polyhead::ops::attention_bf16
