// Products of small matrices that lie in the caches, the inner loops of attention.
//
//   c (rows x columns) = a (rows x depth) b (depth x columns), or c += with Accumulate::kYes
//
// Vectors run along the columns of b and c; elements of a are broadcast, so `a` is read as it lies
// in memory, transposed or not, while rows of b and c are aligned and padded to whole vectors. A
// block of c stays in registers over the whole depth. Private to framework/ops.
#pragma once

#include "framework/ops/matmul.h"
#include "framework/ops/simd.h"

namespace polyhead::ops {

// Element (i, j) lies at data[i * row_stride + j * column_stride].
template <class T>
struct MatrixView {
  const T* data;
  std::int64_t row_stride;
  std::int64_t column_stride;

  MatrixView transposed() const { return {data, column_stride, row_stride}; }
};

// Rows lie `stride` elements apart, aligned to a vector.
template <class T>
struct Panel {
  T* data;
  std::int64_t stride;

  T* row(std::int64_t i) const { return data + i * stride; }
  Panel columns_from(std::int64_t column) const { return {data + column, stride}; }
};

namespace internal {

// A block of c in registers: enough independent sums to hide the latency of the FMA, and few enough
// for the 32 vector registers of AVX-512 or the 16 of the others. Most head dimensions and blocks
// of keys are multiples of 8: no rows are left over.
inline constexpr int kVectorsInRegisters = 2;
template <class T>
inline constexpr int kRowsInRegisters = sizeof(simd::Vector<T>) == 64 ? 8 : 4;

template <Accumulate kAccumulate, int kRows, int kVectors, class T>
void register_product(std::int64_t depth, const MatrixView<T>& a, const Panel<const T>& b,
                      const Panel<T>& c) {
  using Vector = simd::Vector<T>;
  Vector sum[kRows][kVectors];
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v] = kAccumulate == Accumulate::kYes
                      ? Vector::load_aligned(c.row(i) + v * simd::kWidth<T>)
                      : Vector(T(0));
    }
  }
  for (std::int64_t k = 0; k < depth; ++k) {
    Vector b_row[kVectors];
    for (int v = 0; v < kVectors; ++v) {
      b_row[v] = Vector::load_aligned(b.row(k) + v * simd::kWidth<T>);
    }
    const T* a_column = a.data + k * a.column_stride;
    for (int i = 0; i < kRows; ++i) {
      const Vector element(a_column[i * a.row_stride]);
      for (int v = 0; v < kVectors; ++v) sum[i][v] = xsimd::fma(element, b_row[v], sum[i][v]);
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int v = 0; v < kVectors; ++v) {
      sum[i][v].store_aligned(c.row(i) + v * simd::kWidth<T>);
    }
  }
}

template <Accumulate kAccumulate, int kVectors, class T>
void panel_product(std::int64_t rows, std::int64_t depth, MatrixView<T> a, const Panel<const T>& b,
                   Panel<T> c) {
  constexpr int kRows = kRowsInRegisters<T>;
  const auto advance = [&](int done) {
    rows -= done;
    a.data += done * a.row_stride;
    c.data += done * c.stride;
  };
  for (; rows >= kRows; advance(kRows)) {
    register_product<kAccumulate, kRows, kVectors>(depth, a, b, c);
  }
  for (; rows >= 1; advance(1)) register_product<kAccumulate, 1, kVectors>(depth, a, b, c);
}

}  // namespace internal

// `columns` is a multiple of the vector's length.
template <Accumulate kAccumulate, class T>
void tile_product(std::int64_t rows, std::int64_t columns, std::int64_t depth,
                  const MatrixView<T>& a, const Panel<const T>& b, const Panel<T>& c) {
  constexpr std::int64_t kPanelColumns = internal::kVectorsInRegisters * simd::kWidth<T>;
  std::int64_t column = 0;
  for (; column + kPanelColumns <= columns; column += kPanelColumns) {
    internal::panel_product<kAccumulate, internal::kVectorsInRegisters>(
        rows, depth, a, b.columns_from(column), c.columns_from(column));
  }
  if (column < columns) {
    internal::panel_product<kAccumulate, 1>(rows, depth, a, b.columns_from(column),
                                            c.columns_from(column));
  }
}

}  // namespace polyhead::ops
