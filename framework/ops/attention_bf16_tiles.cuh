// Tiles in shared memory, their way to and from device memory, and products of them on the tensor
// cores. Private to framework/ops.
#pragma once

#include "framework/ops/attention_bf16.cuh"

namespace polyhead::ops::attention_bf16 {

// kRows rows of kDim elements. The 16-byte chunks of a row are exchanged by the row's number, so
// that eight rows of one chunk, as a matrix load reads them, lie in different banks.
template <int kRowCount, int kDimension>
struct Tile {
  static constexpr int kRows = kRowCount, kDim = kDimension, kChunks = kDim / 8;
  static constexpr int kPitch = 2 * kDim, kBytes = kRows * kPitch;
  static_assert(kChunks % 4 == 0, "dimensions come in multiples of 32");
  // Rows of an odd number of half bank lines take turns between the halves by themselves.
  static constexpr int kSwizzle = kChunks % 8 == 0 ? 7 : 3;

  // The address of a multiple of 128 bytes.
  std::uint32_t address;

  __device__ __forceinline__ std::uint32_t chunk(int row, int index) const {
    const int exchange = kSwizzle == 7 ? row & 7 : row >> 1 & 3;
    return address + row * kPitch + (index ^ exchange) * 16;
  }
  // Of the chunk `index` further to the right and `rows` further down than the one at `from`. The
  // bits of `index` must be 0 in from's index, and `rows` a multiple of 8: then the exchange is
  // the same, and with constants this is one operation at most.
  __device__ __forceinline__ static std::uint32_t moved(std::uint32_t from, int rows, int index) {
    return (from ^ ((index & kSwizzle) * 16)) + (rows * kPitch + (index & ~kSwizzle) * 16);
  }
};

// Begins to fill a tile with the rows at `rows`, of which `count` exist; zeros take the place of
// the others and of dimensions behind heads.dim.
template <int kThreads, bool kGeneral, class Tile>
__device__ __forceinline__ void load_tile(const Tile& tile, const bf16* rows, const Heads& heads,
                                          int count, bool aligned) {
  const int thread = static_cast<int>(threadIdx.x);
  if (!kGeneral || aligned) {
    constexpr int kLanes = Tile::kChunks % 8 == 0 ? 8 : 4, kRowsAtOnce = kThreads / kLanes;
    static_assert(Tile::kRows % kRowsAtOnce == 0 && kRowsAtOnce % 8 == 0);
    const int lane = thread % kLanes, row = thread / kLanes;
    const std::uint32_t to = tile.chunk(row, lane);
    const bf16* from = rows + row * heads.row_stride + lane * 8;
#pragma unroll
    for (int i = 0; i < Tile::kRows; i += kRowsAtOnce) {
#pragma unroll
      for (int index = 0; index < Tile::kChunks; index += kLanes) {
        copy_chunk_async(Tile::moved(to, i, index), from + index * 8,
                         row + i < count && (lane + index) * 8 < heads.dim);
      }
      from += kRowsAtOnce * heads.row_stride;
    }
  } else {
#pragma unroll 4
    for (int i = thread; i < Tile::kRows * Tile::kDim; i += kThreads) {
      const int row = i / Tile::kDim, column = i % Tile::kDim;
      const bool inside = row < count && column < heads.dim;
      const std::uint16_t element =
          inside ? __bfloat16_as_ushort(rows[row * heads.row_stride + column]) : std::uint16_t{0};
      store_shared(tile.chunk(row, column / 8) + column % 8 * 2, element);
    }
  }
}

// Writes kRows rows of a tile from `first` on to the rows at `rows` (that of the tile's row 0), of
// which `count` exist. `thread` is one of kThreads.
template <int kThreads, int kRows, bool kGeneral, class Tile>
__device__ __forceinline__ void store_tile(const Tile& tile, int thread, int first, bf16* rows,
                                           const Heads& heads, int count, bool aligned) {
  if (!kGeneral || aligned) {
#pragma unroll 4
    for (int i = thread; i < kRows * Tile::kChunks; i += kThreads) {
      const int row = first + i / Tile::kChunks, index = i % Tile::kChunks;
      if (row >= count || index * 8 >= heads.dim) continue;
      *reinterpret_cast<uint4*>(rows + row * heads.row_stride + index * 8) =
          load_shared_chunk(tile.chunk(row, index));
    }
  } else {
    for (int i = thread; i < kRows * Tile::kDim; i += kThreads) {
      const int row = first + i / Tile::kDim, column = i % Tile::kDim;
      if (row >= count || column >= heads.dim) continue;
      rows[row * heads.row_stride + column] =
          __ushort_as_bfloat16(load_shared_element(tile.chunk(row, column / 8) + column % 8 * 2));
    }
  }
}

enum class Side { kA, kB };

// One side of a product, read from a tile in blocks of 16 x 16. A has its rows, or B its columns,
// in the rows of the tile; with kDepthInRows in the dimensions of the tile instead, and the depth
// of the product in its rows. A warp takes every kStride-th block, the first of them `first`.
template <class Tile, Side kSide, bool kDepthInRows, int kStride = 1>
class Operand {
 public:
  __device__ __forceinline__ Operand(const Tile& tile, int first) {
    static_assert((kStride & (kStride - 1)) == 0);
    // The matrices of a load: of A in the order top left, bottom left, top right, bottom right; of
    // B the two halves of the depth of eight columns, then of the next eight.
    constexpr bool kDownFirst = (kSide == Side::kA) != kDepthInRows;
    const int lane = static_cast<int>(threadIdx.x) % 32;
    const int row = kDownFirst ? lane % 16 : lane / 16 * 8 + lane % 8;
    const int index = kDownFirst ? lane / 16 : lane / 8 % 2;
    lane_address_ =
        kDepthInRows ? tile.chunk(row, 2 * first + index) : tile.chunk(16 * first + row, index);
  }

  __device__ __forceinline__ Fragment load(int block, int depth) const {
    if constexpr (kDepthInRows) {
      return load_matrices_transposed(Tile::moved(lane_address_, 16 * depth, 2 * kStride * block));
    } else {
      return load_matrices(Tile::moved(lane_address_, 16 * kStride * block, 2 * depth));
    }
  }

 private:
  std::uint32_t lane_address_;
};

// Side A from sums that lie in registers, rounded to bf16.
template <int kM, int kN>
class SumOperand {
 public:
  __device__ __forceinline__ explicit SumOperand(const Sum (&sums)[kM][kN]) : sums_(sums) {}
  __device__ __forceinline__ Fragment load(int block, int depth) const {
    const Sum &left = sums_[block][2 * depth], &right = sums_[block][2 * depth + 1];
    return {{pack(left.element[0], left.element[1]), pack(left.element[2], left.element[3]),
             pack(right.element[0], right.element[1]), pack(right.element[2], right.element[3])}};
  }

 private:
  const Sum (&sums_)[kM][kN];
};

// c += A B over a depth of 16 kDepth.
template <int kDepth, class A, class B, int kM, int kN>
__device__ __forceinline__ void multiply(const A& a, const B& b, Sum (&c)[kM][kN]) {
  static_assert(kN % 2 == 0);
#pragma unroll
  for (int depth = 0; depth < kDepth; ++depth) {
    Fragment left[kM];
#pragma unroll
    for (int m = 0; m < kM; ++m) left[m] = a.load(m, depth);
#pragma unroll
    for (int n = 0; n < kN / 2; ++n) {
      const Fragment right = b.load(n, depth);
#pragma unroll
      for (int m = 0; m < kM; ++m) {
        multiply_add(left[m], right.word[0], right.word[1], c[m][2 * n]);
        multiply_add(left[m], right.word[2], right.word[3], c[m][2 * n + 1]);
      }
    }
  }
}

template <int kM, int kN>
__device__ __forceinline__ void set_zero(Sum (&c)[kM][kN]) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) c[m][n] = Sum{};
  }
}

// Where the sums c[m][n] of a warp lie: m counts every kRowStride-th block of 16 rows, n the halves
// of every kColumnStride-th block of 16 columns.
template <int kRowStride, int kColumnStride>
struct Place {
  __device__ __forceinline__ Place(int thread, int first_row_block, int first_column_block)
      : first_row(16 * first_row_block + thread % 32 / 4),
        first_column(16 * first_column_block + thread % 4 * 2) {}

  // Of elements 0 and 1; eight rows below lie 2 and 3.
  __device__ __forceinline__ int row(int m) const { return first_row + 16 * kRowStride * m; }
  // Of elements 0 and 2; 1 and 3 lie in the next.
  __device__ __forceinline__ int column(int n) const {
    return first_column + 16 * kColumnStride * (n / 2) + 8 * (n % 2);
  }

  int first_row, first_column;
};

// Writes sums times `factor` to a tile, rounded to bf16.
template <class Tile, int kRowStride, int kColumnStride, int kM, int kN>
__device__ __forceinline__ void store_sums(const Sum (&c)[kM][kN], float factor,
                                           const Place<kRowStride, kColumnStride>& place,
                                           const Tile& tile) {
  const std::uint32_t first =
      tile.chunk(place.first_row, place.first_column / 8) + place.first_column % 8 * 2;
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) {
      const float* const e = c[m][n].element;
      const int index = 2 * kColumnStride * (n / 2) + n % 2, row = 16 * kRowStride * m;
      store_shared(Tile::moved(first, row, index), pack(factor * e[0], factor * e[1]));
      store_shared(Tile::moved(first, row + 8, index), pack(factor * e[2], factor * e[3]));
    }
  }
}

// Sums of a block of kThreads in device memory: sum j of thread t begins at float 4 (j kThreads +
// t), so that a warp reads or writes 512 bytes at once. `to` is the place of this thread's first.
template <int kThreads, int kM, int kN>
__device__ __forceinline__ void write_sums(const Sum (&c)[kM][kN], float* to) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) write_sum(to + (m * kN + n) * 4 * kThreads, c[m][n]);
  }
}
template <int kThreads, int kM, int kN>
__device__ __forceinline__ void add_sums(const Sum (&c)[kM][kN], float* to) {
#pragma unroll
  for (int m = 0; m < kM; ++m) {
#pragma unroll
    for (int n = 0; n < kN; ++n) add_sum(to + (m * kN + n) * 4 * kThreads, c[m][n]);
  }
}

}  // namespace polyhead::ops::attention_bf16
