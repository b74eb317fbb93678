// What the bf16 attention kernels share: arguments, tiles in shared memory and the tensor cores'
// fragments (mma.sync m16n8k16, sm_80 and later). Private to framework/ops.
//
// A tile holds rows of one head, 16-byte chunks of a row exchanged by the row's number so that
// eight rows of one chunk lie in different banks. Rows and dimensions outside of the tensor are
// zeros.
#pragma once

#include <cuda_bf16.h>

#include <cstdint>

#include "framework/cuda/reduce.cuh"

namespace polyhead::ops::attention_bf16 {

using bf16 = __nv_bfloat16;

// Element (row n, head h, dimension d) lies at data[n * row_stride + h * head_stride + d].
struct Heads {
  bf16* data;
  std::int64_t row_stride, head_stride;
  int dim;
};

struct Arguments {
  Heads q, k, v, out;      // out: forward writes it
  Heads dout, dq, dk, dv;  // backward
  float* lse;              // (B, H, Tq)
  float* delta;            // (B, H, Tq): sum of dout * out, backward
  int queries, keys, heads, heads_per_group;
  float scale;
  bool causal;
  int window;  // 0: none
  float softcap;
  const float* slopes;        // (H), or null
  const int* document_start;  // (B * Tq), or null
  int query_offset;
  bool aligned;  // every pointer, stride and dimension is a multiple of 16 bytes
};

constexpr float kLog2E = 1.4426950408889634f, kLn2 = 0.6931471805599453f;
constexpr float kInfinity = __builtin_huge_valf();

// Keys [begin, end) that query i of a sequence sees, documents aside.
struct KeyRange {
  int begin, end;
};
__device__ __forceinline__ KeyRange visible_keys(const Arguments& a, int query) {
  const int position = a.query_offset + query;
  return {a.window > 0 ? max(0, position - a.window + 1) : 0,
          a.causal ? min(a.keys, position + 1) : a.keys};
}

__device__ __forceinline__ std::uint32_t shared_address(const void* pointer) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(pointer));
}

// kRows rows of kDim elements in shared memory.
template <int kRows, int kDim>
struct Tile {
  static constexpr int kStride = (kDim + 63) / 64 * 64;  // elements
  static constexpr int kElements = kRows * kStride;
  bf16* data;

  __device__ __forceinline__ bf16* chunk(int row, int index) const {
    return data + row * kStride + ((index ^ (row & 7)) * 8);
  }
};

__device__ __forceinline__ void copy_chunk_async(bf16* to, const bf16* from, bool inside) {
  const int bytes = inside ? 16 : 0;  // the rest is filled with zeros
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared_address(to)),
               "l"(from), "r"(bytes));
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;\n" ::);
}
template <int kPending>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(kPending));
}

// Begins to fill a tile with rows [first, first + kRows) of one head; rows from `end` on are zeros.
// `rows` points at row 0 of the sequence and head.
template <int kThreads, int kRows, int kDim>
__device__ __forceinline__ void load_tile(const Tile<kRows, kDim>& tile, const bf16* rows,
                                          const Heads& heads, int first, int end, bool aligned) {
  constexpr int kChunks = kDim / 8;
#pragma unroll 4
  for (int i = static_cast<int>(threadIdx.x); i < kRows * kChunks; i += kThreads) {
    const int row = i / kChunks, index = i % kChunks;
    const bool inside = first + row < end && index * 8 < heads.dim;
    const bf16* const from =
        rows + (inside ? (first + row) * heads.row_stride + index * 8 : std::int64_t{0});
    bf16* const to = tile.chunk(row, index);
    if (aligned) {
      copy_chunk_async(to, from, inside);
    } else {
      for (int j = 0; j < 8; ++j) {
        to[j] = inside && index * 8 + j < heads.dim ? from[j] : __float2bfloat16(0.0f);
      }
    }
  }
}

// Fragments of 16 x 16 elements: operand A of rows [row, row + 16), or operand B of two times eight
// columns that are rows of the tile (column-major B).
struct Fragment {
  std::uint32_t word[4];
};

template <int kRows, int kDim>
__device__ __forceinline__ Fragment load_a(const Tile<kRows, kDim>& tile, int row, int index) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  Fragment f;
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
               : "=r"(f.word[0]), "=r"(f.word[1]), "=r"(f.word[2]), "=r"(f.word[3])
               : "r"(shared_address(tile.chunk(row + lane % 16, index + lane / 16))));
  return f;
}
// B (k x n) whose column n is row `row + n` of the tile, k its dimensions from chunk `index` on:
// words 0 and 1 are columns 0 to 7, words 2 and 3 columns 8 to 15.
template <int kRows, int kDim>
__device__ __forceinline__ Fragment load_b(const Tile<kRows, kDim>& tile, int row, int index) {
  const int lane = static_cast<int>(threadIdx.x) % 32, matrix = lane / 8;
  Fragment f;
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
      : "=r"(f.word[0]), "=r"(f.word[1]), "=r"(f.word[2]), "=r"(f.word[3])
      : "r"(shared_address(tile.chunk(row + matrix / 2 * 8 + lane % 8, index + matrix % 2))));
  return f;
}
// B (k x n) whose row k is row `row + k` of the tile, n its dimensions from chunk `index` on.
template <int kRows, int kDim>
__device__ __forceinline__ Fragment load_b_rows(const Tile<kRows, kDim>& tile, int row, int index) {
  const int lane = static_cast<int>(threadIdx.x) % 32, matrix = lane / 8;
  Fragment f;
  asm volatile(
      "ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
      : "=r"(f.word[0]), "=r"(f.word[1]), "=r"(f.word[2]), "=r"(f.word[3])
      : "r"(shared_address(tile.chunk(row + matrix % 2 * 8 + lane % 8, index + matrix / 2))));
  return f;
}

// A 16 x 8 sum: elements 0 and 1 lie in row lane / 4, columns 2 (lane % 4) and the next; elements 2
// and 3 eight rows below.
struct Sum {
  float element[4] = {};
};

__device__ __forceinline__ void multiply(const Fragment& a, std::uint32_t b0, std::uint32_t b1,
                                         Sum& c) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};\n"
      : "+f"(c.element[0]), "+f"(c.element[1]), "+f"(c.element[2]), "+f"(c.element[3])
      : "r"(a.word[0]), "r"(a.word[1]), "r"(a.word[2]), "r"(a.word[3]), "r"(b0), "r"(b1));
}

// 2^x to 2 units in the last place; subnormal results are 0.
__device__ __forceinline__ float power_of_two(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ std::uint32_t pack(float low, float high) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
  return *reinterpret_cast<const std::uint32_t*>(&pair);
}
// Two neighbouring 16 x 8 sums as an operand A of depth 16.
__device__ __forceinline__ Fragment as_a(const Sum& left, const Sum& right) {
  return {{pack(left.element[0], left.element[1]), pack(left.element[2], left.element[3]),
           pack(right.element[0], right.element[1]), pack(right.element[2], right.element[3])}};
}

// Row and column within a 16 x 8 sum.
__device__ __forceinline__ int row_of(int element) {
  return static_cast<int>(threadIdx.x) % 32 / 4 + element / 2 * 8;
}
__device__ __forceinline__ int column_of(int element) {
  return static_cast<int>(threadIdx.x) % 4 * 2 + element % 2;
}

// c[m][n] += A B^T for `kM` times 16 rows of `a` from `row`, and the kN times 8 rows of `b`.
template <int kM, int kN, int kRowsA, int kRowsB, int kDim>
__device__ __forceinline__ void multiply_rows(const Tile<kRowsA, kDim>& a, int row,
                                              const Tile<kRowsB, kDim>& b, Sum (&c)[kM][kN]) {
#pragma unroll
  for (int index = 0; index < kDim / 8; index += 2) {
    Fragment left[kM];
#pragma unroll
    for (int m = 0; m < kM; ++m) left[m] = load_a(a, row + 16 * m, index);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      const Fragment right = load_b(b, 8 * n, index);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        multiply(left[m], right.word[0], right.word[1], c[m][n]);
        multiply(left[m], right.word[2], right.word[3], c[m][n + 1]);
      }
    }
  }
}

// c[m][n] += A B for A in registers (16 kM x 8 kDepth) and the rows of `b` (8 kDepth x 8 kN).
template <int kM, int kDepth, int kN, int kRows, int kDim>
__device__ __forceinline__ void multiply_by_rows(const Sum (&a)[kM][kDepth],
                                                 const Tile<kRows, kDim>& b, Sum (&c)[kM][kN]) {
#pragma unroll
  for (int depth = 0; depth < kDepth; depth += 2) {
    Fragment left[kM];
#pragma unroll
    for (int m = 0; m < kM; ++m) left[m] = as_a(a[m][depth], a[m][depth + 1]);
#pragma unroll
    for (int n = 0; n < kN; n += 2) {
      const Fragment right = load_b_rows(b, 8 * depth, n);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        multiply(left[m], right.word[0], right.word[1], c[m][n]);
        multiply(left[m], right.word[2], right.word[3], c[m][n + 1]);
      }
    }
  }
}

// Writes a sum times `factor` of rows (first + row) < end to one head, dimensions below its size.
template <int kN>
__device__ __forceinline__ void store_rows(const Sum (&sum)[kN], const float (&factor)[2],
                                           bf16* rows, const Heads& heads, int first, int end,
                                           bool aligned) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int row = first + row_of(2 * half);
    if (row >= end) continue;
    bf16* const to = rows + row * heads.row_stride;
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const int column = 8 * n + column_of(0);
      const float low = sum[n].element[2 * half] * factor[half];
      const float high = sum[n].element[2 * half + 1] * factor[half];
      if (aligned) {
        if (column < heads.dim) *reinterpret_cast<std::uint32_t*>(to + column) = pack(low, high);
      } else {
        if (column < heads.dim) to[column] = __float2bfloat16(low);
        if (column + 1 < heads.dim) to[column + 1] = __float2bfloat16(high);
      }
    }
  }
}

// What softcap and ALiBi make of scale q . k; `slope` is the ALiBi slope of the head, or 0, and
// `dcap` becomes the derivative by scale q . k.
__device__ __forceinline__ float with_extras(const Arguments& a, float slope, float score,
                                             int query, int key, float& dcap) {
  dcap = 1.0f;
  if (a.softcap > 0) {
    const float tanh = tanhf(score / a.softcap);
    score = a.softcap * tanh;
    dcap = 1.0f - tanh * tanh;
  }
  return score - slope * fabsf(static_cast<float>(a.query_offset + query - key));
}

}  // namespace polyhead::ops::attention_bf16
