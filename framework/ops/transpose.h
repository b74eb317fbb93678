// Transposes small matrices in registers. Private to framework/ops.
#pragma once

#include <array>

#include "framework/ops/simd.h"

namespace polyhead::ops {

// to[j][i] = factor * from[i][j] for i < rows, j < columns; rows of either side may start anywhere.
template <class T>
void transpose(std::int64_t rows, std::int64_t columns, const T* from, std::int64_t from_stride,
               T factor, T* to, std::int64_t to_stride) {
  // Squares of 128-bit vectors: wider ones interleave within 128-bit lanes on x86.
  constexpr std::int64_t kSide = 16 / sizeof(T);
  using Row = xsimd::make_sized_batch_t<T, kSide>;
  const std::int64_t whole_rows = rows / kSide * kSide;
  const std::int64_t whole_columns = columns / kSide * kSide;
  const Row factors(factor);
  for (std::int64_t i = 0; i < whole_rows; i += kSide) {
    for (std::int64_t j = 0; j < whole_columns; j += kSide) {
      std::array<Row, kSide> square;
      for (std::int64_t k = 0; k < kSide; ++k) {
        square[k] = Row::load_unaligned(from + (i + k) * from_stride + j) * factors;
      }
      // log2(kSide) perfect shuffles of the rows transpose the square.
      for (std::int64_t shuffles = 1; shuffles < kSide; shuffles *= 2) {
        std::array<Row, kSide> shuffled;
        for (std::int64_t k = 0; k < kSide / 2; ++k) {
          shuffled[2 * k] = xsimd::zip_lo(square[k], square[k + kSide / 2]);
          shuffled[2 * k + 1] = xsimd::zip_hi(square[k], square[k + kSide / 2]);
        }
        square = shuffled;
      }
      for (std::int64_t k = 0; k < kSide; ++k) {
        square[k].store_unaligned(to + (j + k) * to_stride + i);
      }
    }
  }
  for (std::int64_t i = 0; i < rows; ++i) {
    const std::int64_t first_left = i < whole_rows ? whole_columns : 0;
    for (std::int64_t j = first_left; j < columns; ++j) {
      to[j * to_stride + i] = factor * from[i * from_stride + j];
    }
  }
}

}  // namespace polyhead::ops
