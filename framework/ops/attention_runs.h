// How the CPU's attention backward shares its work among threads. Private to framework/ops.
//
// The query tiles of a sequence are cut into runs of about equally many pairs. Each run sums dk and
// dv over its own queries, and the sums are added in order. A batch with enough (sequence, group)
// pairs has one run per sequence. The cut depends on the shape alone, so the bits do not depend on
// the number of threads. Memory: for R runs at most R times dk and dv, about half of it when
// causal.
#pragma once

#include <vector>

#include "framework/ops/attention_tiles.h"
#include "framework/ops/simd.h"

namespace polyhead::ops {

// Query tiles [tile_begin, tile_end) and the keys that they may see.
struct QueryRun {
  std::int64_t tile_begin, tile_end;
  KeyRange keys;
  std::int64_t partial_row;  // of its first key, among the partial sums of all runs

  std::int64_t key_count() const { return keys.end - keys.begin; }
};

// `pairs`: how many (sequence, group) pairs there are to work on besides.
std::vector<QueryRun> cut_into_runs(const AttentionSpec& spec, std::int64_t pairs,
                                    std::int64_t queries, std::int64_t keys);

// Of the partial sums of all runs.
inline std::int64_t partial_rows(const std::vector<QueryRun>& runs) {
  return runs.back().partial_row + runs.back().key_count();
}

// Elements of the working memory of one thread of the backward pass.
template <class T>
std::int64_t backward_thread_elements(std::int64_t qk_dim, std::int64_t v_dim) {
  return (2 * qk_dim + v_dim + simd::round_up_to_width<T>(qk_dim) +
          simd::round_up_to_width<T>(v_dim) + 3 * kBlockKeys + 2) *
         kTileQueries;
}

// target = the sum of all runs' rows for one key, in order.
template <class T>
void add_runs(const std::vector<QueryRun>& runs, const Panel<T>& partial, std::int64_t key,
              std::int64_t columns, T* target) {
  std::fill_n(target, columns, T(0));
  for (const QueryRun& run : runs) {
    if (key < run.keys.begin || key >= run.keys.end) continue;
    const T* const row = partial.row(run.partial_row + key - run.keys.begin);
    for (std::int64_t j = 0; j < columns; ++j) target[j] += row[j];
  }
}

}  // namespace polyhead::ops
