// What the CPU's attention kernels share: tiles of queries against blocks of keys.
//
// A tile is transposed: vectors run along its queries. So scores^T (keys x queries) = K Q^T and
// out^T = V^T P^T read K and V where they lie, the softmax needs no sum across a vector, and only
// queries and outputs are transposed, once per tile. Private to framework/ops.
#pragma once

#include <algorithm>

#include "framework/ops/attention.h"
#include "framework/ops/tile_product.h"

namespace polyhead::ops {

inline constexpr std::int64_t kTileQueries = 64;
inline constexpr std::int64_t kBlockKeys = 128;
// Blocks in which some pairs are masked are finer: less work on pairs that nobody sees.
inline constexpr std::int64_t kMaskedBlockKeys = 16;

inline std::int64_t tiles_of(std::int64_t queries) {
  return (queries + kTileQueries - 1) / kTileQueries;
}

// Keys [begin, end) that a query at an absolute position sees, documents aside.
struct KeyRange {
  std::int64_t begin, end;
};
inline KeyRange visible_keys(const AttentionSpec& spec, std::int64_t position, std::int64_t keys) {
  return {spec.window > 0 ? std::max<std::int64_t>(0, position - spec.window + 1) : 0,
          spec.causal ? std::min(keys, position + 1) : keys};
}

// Keys [begin, end) against the columns [first_column, last_column) of a tile.
struct KeyBlock {
  std::int64_t begin, end;
  std::int64_t first_column, last_column;
  bool masked;

  std::int64_t keys() const { return end - begin; }
  std::int64_t columns() const { return last_column - first_column; }
};

// Queries of one sequence and the keys that each sees. Columns behind the last query fill its
// vector and repeat its range.
template <class T>
struct QueryTile {
  QueryTile(const AttentionSpec& spec, std::int64_t batch, std::int64_t tile, std::int64_t queries,
            std::int64_t keys);

  // Calls visit(const KeyBlock&) for every block of keys that some query sees, in order.
  template <class Visit>
  void for_each_key_block(const Visit& visit) const;

  std::int64_t first;                     // row of the first query in q
  std::int64_t count;                     // queries
  std::int64_t columns;                   // count rounded up to vectors
  KeyRange seen;                          // by at least one query
  KeyRange common;                        // seen by all
  alignas(64) T position[kTileQueries];   // absolute, exact in T
  alignas(64) T key_begin[kTileQueries];  // query i sees keys [key_begin[i], key_end[i])
  alignas(64) T key_end[kTileQueries];

 private:
  // The vectors of columns that see a key of the block.
  void find_columns(KeyBlock& block) const;
};

template <class T>
QueryTile<T>::QueryTile(const AttentionSpec& spec, std::int64_t batch, std::int64_t tile,
                        std::int64_t queries, std::int64_t keys)
    : first(batch * queries + tile * kTileQueries),
      count(std::min(kTileQueries, queries - tile * kTileQueries)),
      columns(simd::round_up_to_width<T>(count)),
      seen{keys, 0},
      common{0, keys} {
  for (std::int64_t i = 0; i < columns; ++i) {
    const std::int64_t query = std::min(i, count - 1);
    const std::int64_t at = spec.query_offset + tile * kTileQueries + query;
    KeyRange range = visible_keys(spec, at, keys);
    if (spec.document_start) {
      const std::int64_t start = spec.document_start.data<std::int32_t>()[first + query];
      range.begin = std::max(range.begin, start);
    }
    position[i] = static_cast<T>(at);
    key_begin[i] = static_cast<T>(range.begin);
    key_end[i] = static_cast<T>(range.end);
    seen = {std::min(seen.begin, range.begin), std::max(seen.end, range.end)};
    common = {std::max(common.begin, range.begin), std::min(common.end, range.end)};
  }
}

template <class T>
void QueryTile<T>::find_columns(KeyBlock& block) const {
  using Vector = simd::Vector<T>;
  const Vector block_begin(static_cast<T>(block.begin)), block_end(static_cast<T>(block.end));
  block.first_column = columns;
  block.last_column = 0;
  for (std::int64_t column = 0; column < columns; column += simd::kWidth<T>) {
    const auto sees = Vector::load_aligned(key_begin + column) < block_end &&
                      Vector::load_aligned(key_end + column) > block_begin;
    if (!xsimd::any(sees)) continue;
    block.first_column = std::min(block.first_column, column);
    block.last_column = column + simd::kWidth<T>;
  }
}

template <class T>
template <class Visit>
void QueryTile<T>::for_each_key_block(const Visit& visit) const {
  const auto worth_a_block = [&](std::int64_t begin) {
    return begin >= common.begin && common.end - begin >= kMaskedBlockKeys;
  };
  KeyBlock block;
  for (block.begin = seen.begin; block.begin < seen.end; block.begin = block.end) {
    block.masked = !worth_a_block(block.begin);
    if (!block.masked) {
      block.end = std::min(block.begin + kBlockKeys, common.end);
      block.first_column = 0;
      block.last_column = columns;
    } else {
      block.end = std::min(block.begin + kMaskedBlockKeys, seen.end);
      if (block.begin < common.begin && common.begin < block.end && worth_a_block(common.begin)) {
        block.end = common.begin;
      }
      find_columns(block);
    }
    if (block.columns() > 0) visit(block);
  }
}

// The head's rows from `row` on, as they lie in memory.
template <class T>
MatrixView<T> rows_of_head(const HeadView& view, std::int64_t row, std::int64_t head) {
  const std::int64_t stride = view.columns.row_stride();
  return {view.columns.data<T>() + row * stride + head * view.head_stride, stride, 1};
}

}  // namespace polyhead::ops
