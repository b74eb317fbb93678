#include "framework/ops/attention_runs.h"

namespace polyhead::ops {
namespace {

// Enough for the threads of a large machine; more tasks cost memory for partial sums.
constexpr std::int64_t kWantedTasks = 64;
constexpr std::int64_t kMinRunTiles = 4;

}  // namespace

std::vector<QueryRun> cut_into_runs(const AttentionSpec& spec, std::int64_t pairs,
                                    std::int64_t queries, std::int64_t keys) {
  const std::int64_t tiles = tiles_of(queries);
  const std::int64_t count =
      std::clamp<std::int64_t>(kWantedTasks / pairs, 1, (tiles + kMinRunTiles - 1) / kMinRunTiles);

  std::vector<KeyRange> keys_of_tile;
  std::vector<std::int64_t> work_until{0};  // keys of the tiles before each
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const std::int64_t first = spec.query_offset + tile * kTileQueries;
    const std::int64_t last = std::min(first + kTileQueries, spec.query_offset + queries) - 1;
    const std::int64_t begin = std::min(keys, visible_keys(spec, first, keys).begin);
    const std::int64_t end = std::max(begin, visible_keys(spec, last, keys).end);
    keys_of_tile.push_back({begin, end});
    work_until.push_back(work_until.back() + std::max<std::int64_t>(1, end - begin));
  }

  std::vector<QueryRun> runs;
  std::int64_t partial_rows = 0;
  for (std::int64_t run = 1, tile = 0; tile < tiles; ++run) {
    const std::int64_t begin = tile;
    do {
      ++tile;
    } while (tile < tiles &&
             work_until[static_cast<std::size_t>(tile)] < work_until.back() * run / count);
    const KeyRange seen{keys_of_tile[static_cast<std::size_t>(begin)].begin,
                        keys_of_tile[static_cast<std::size_t>(tile - 1)].end};
    runs.push_back({begin, tile, seen, partial_rows});
    partial_rows += runs.back().key_count();
  }
  return runs;
}

}  // namespace polyhead::ops
