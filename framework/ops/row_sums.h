// Sums over the rows of a matrix, in an order fixed by its shape: blocks of rows are summed in
// parallel, then their sums in order.
#pragma once

#include <algorithm>

#include "framework/ops/parallel.h"
#include "framework/ops/simd.h"
#include "framework/tensor.h"

namespace polyhead::ops {

// body(begin, end, sums) adds to sums[0, columns) what the rows [begin, end) contribute. Returns
// the sums of the blocks, (blocks, columns).
template <class T, class Body>
Tensor row_block_sums(std::int64_t rows, std::int64_t columns, Body&& body) {
  constexpr std::int64_t kLeastRows = 32, kMostBlocks = 64;
  const std::int64_t rows_per_block = std::max(kLeastRows, (rows + kMostBlocks - 1) / kMostBlocks);
  const std::int64_t blocks = (rows + rows_per_block - 1) / rows_per_block;
  Tensor sums = Tensor::empty({blocks, columns}, dtype_of<T>());
  T* first = sums.data<T>();
  parallel_pieces(blocks, rows * columns, [&](std::int64_t block) {
    T* block_sums = first + block * columns;
    std::fill_n(block_sums, columns, T(0));
    const std::int64_t begin = block * rows_per_block;
    body(begin, std::min(begin + rows_per_block, rows), block_sums);
  });
  return sums;
}

// total[0, columns) += the rows of `sums`.
template <class T>
void add_rows(const Tensor& sums, T* total) {
  const T* first = sums.data<T>();
  parallel_runs(1, sums.cols(), [&](std::int64_t, std::int64_t begin, std::int64_t end) {
    simd::for_each<T>(end - begin, [&](std::int64_t i, auto lanes) {
      simd::Vector<T> running(0);
      for (std::int64_t row = 0; row < sums.rows(); ++row) {
        running += simd::load(first + row * sums.row_stride() + begin + i, lanes);
      }
      simd::store(simd::load(total + begin + i, lanes) + running, total + begin + i, lanes);
    });
  });
}

}  // namespace polyhead::ops
