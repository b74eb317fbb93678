// What a block of threads of the backward pass on Hopper does next: a block of keys of one head,
// and the turns in which such blocks add to dq. Private to framework/ops.
#pragma once

#include "framework/ops/attention_hopper_items.cuh"

namespace polyhead::ops::attention_bf16 {

__device__ __forceinline__ ItemPlace place_of_ticket(const Schedule& schedule, int ticket) {
  if (ticket >= schedule.columns * schedule.rows) return {-1, 0, false};
  const auto [column, row, ascending] = schedule.at(ticket);
  return {column, ascending ? row : schedule.rows - 1 - row, ascending};
}

// The blocks of queries that see one of its keys are begin, begin + direction, ..., `count` in all.
template <int kKeys, int kQueries>
struct BackwardItem {
  int column, block;
  bool ascending;
  int batch, head, group, first_key;
  int begin, direction, count;

  __device__ __forceinline__ BackwardItem(const Arguments& a, const ItemPlace& place)
      : column(place.column),
        block(place.block),
        ascending(place.ascending),
        batch(column / a.heads),
        head(column % a.heads),
        group(head / a.heads_per_group),
        first_key(block * kKeys) {
    const int first_query = max(0, queries_that_see(a, first_key).begin);
    const int last_key = first_key + kKeys - 1;  // of a whole block, beyond the keys too
    const int last_query = min(a.queries, last_key + a.reach_back - a.query_offset) - 1;
    const int first_block = first_query / kQueries, last_block = last_query / kQueries;
    begin = ascending ? last_block : first_block;
    direction = ascending ? -1 : 1;
    count = first_query <= last_query ? last_block - first_block + 1 : 0;
  }

  // Of the arrays with an entry for each block of queries of each column.
  __device__ __forceinline__ std::int64_t dq_block(const Arguments& a, int query_block) const {
    return static_cast<std::int64_t>(column) * (a.padded_queries / kQueries) + query_block;
  }
  // How many blocks of keys that a query of the block sees have their turns before this one.
  __device__ __forceinline__ int turn_at(const Arguments& a, int query_block) const {
    const int query = query_block * kQueries;
    if (ascending) return block - visible_keys(a, a.query_offset + query).begin / kKeys;
    const int last = min(query + kQueries, a.queries) - 1;
    return (visible_keys(a, a.query_offset + last).end - 1) / kKeys - block;
  }
};

}  // namespace polyhead::ops::attention_bf16
