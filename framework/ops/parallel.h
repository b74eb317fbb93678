// Loops shared out over OpenMP threads. The pieces depend on the sizes alone and each element is
// computed by one piece, so results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

namespace polyhead::ops {

// Below this a parallel region costs more than it saves.
inline constexpr std::int64_t kSerialElements = 1 << 14;

// body(piece) for every piece; together they touch about `elements` elements.
template <class Body>
void parallel_pieces(std::int64_t pieces, std::int64_t elements, Body&& body) {
#pragma omp parallel for schedule(static) if (pieces > 1 && elements > kSerialElements)
  for (std::int64_t piece = 0; piece < pieces; ++piece) body(piece);
}

inline constexpr std::int64_t kRunElements = 4096;
inline std::int64_t runs_per_row(std::int64_t columns) {
  return (columns + kRunElements - 1) / kRunElements;
}

// body(row, begin, end) for runs of neighbouring columns [begin, end) of a matrix.
template <class Body>
void parallel_runs(std::int64_t rows, std::int64_t columns, Body&& body) {
  const std::int64_t runs = runs_per_row(columns);
  parallel_pieces(rows * runs, rows * columns, [&](std::int64_t piece) {
    const std::int64_t begin = piece % runs * kRunElements;
    body(piece / runs, begin, std::min(begin + kRunElements, columns));
  });
}

}  // namespace polyhead::ops
