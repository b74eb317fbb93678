// Products of small matrices that lie in the caches, the inner loops of attention.
//
//   c (rows x columns) = a (rows x depth) b (depth x columns), or c += with Accumulate::kYes
//
// Vectors run along the columns of b and c; elements of a are broadcast, so `a` is read as it lies
// in memory, transposed or not, while rows of b and c are aligned and padded to whole vectors. A
// block of c stays in registers over the whole depth.
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

// Blocks of c fill the vector registers: 32 of them with 512-bit vectors, 16 else.
template <class T>
inline constexpr int kMaxVectors = sizeof(simd::Vector<T>) == 64 ? 4 : 2;
template <class T>
constexpr int rows_in_registers(int vectors) {
  return vectors == 1 ? 8 : (sizeof(simd::Vector<T>) == 64 ? 24 : 12) / vectors;
}

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
  constexpr int kRows = rows_in_registers<T>(kVectors);
  const auto advance = [&](int done) {
    rows -= done;
    a.data += done * a.row_stride;
    c.data += done * c.stride;
  };
  for (; rows >= kRows; advance(kRows))
    register_product<kAccumulate, kRows, kVectors>(depth, a, b, c);
  for (; rows >= 1; advance(1)) register_product<kAccumulate, 1, kVectors>(depth, a, b, c);
}

}  // namespace internal

// `columns` is a multiple of the vector's length.
template <Accumulate kAccumulate, class T>
void tile_product(std::int64_t rows, std::int64_t columns, std::int64_t depth,
                  const MatrixView<T>& a, const Panel<const T>& b, const Panel<T>& c) {
  constexpr int kMaxVectors = internal::kMaxVectors<T>;
  for (std::int64_t column = 0; column < columns; column += kMaxVectors * simd::kWidth<T>) {
    const Panel<const T> b_panel = b.columns_from(column);
    const Panel<T> c_panel = c.columns_from(column);
    const auto vectors = std::min<std::int64_t>(kMaxVectors, (columns - column) / simd::kWidth<T>);
    if constexpr (kMaxVectors == 4) {
      if (vectors == 4) internal::panel_product<kAccumulate, 4>(rows, depth, a, b_panel, c_panel);
      if (vectors == 3) internal::panel_product<kAccumulate, 3>(rows, depth, a, b_panel, c_panel);
    }
    if (vectors == 2) internal::panel_product<kAccumulate, 2>(rows, depth, a, b_panel, c_panel);
    if (vectors == 1) internal::panel_product<kAccumulate, 1>(rows, depth, a, b_panel, c_panel);
  }
}

}  // namespace polyhead::ops
