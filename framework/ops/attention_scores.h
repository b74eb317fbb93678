// Scores of one block of keys against a tile of queries, for the CPU's attention kernels. Private
// to framework/ops.
#pragma once

#include <limits>

#include "framework/ops/attention_tiles.h"

namespace polyhead::ops {

// What turns scale q . k into the argument of the softmax, for one head.
template <class T>
struct ScoreOptions {
  ScoreOptions(const AttentionSpec& spec, std::int64_t head)
      : softcap(static_cast<T>(spec.softcap)),
        slope(spec.alibi_slopes ? spec.alibi_slopes.data<T>()[head] : T(0)) {}

  T softcap;
  T slope;
};

// Calls visit(offset, key, column) for every vector of scores of the block.
template <class T, class Visit>
void for_each_score(const KeyBlock& block, const Visit& visit) {
  for (std::int64_t key = 0; key < block.keys(); ++key) {
    for (std::int64_t column = block.first_column; column < block.last_column;
         column += simd::kWidth<T>) {
      visit(key * kTileQueries + column, static_cast<T>(block.begin + key), column);
    }
  }
}

// s = cap tanh(s / cap)
template <class T>
void soft_cap(const KeyBlock& block, T cap, T* scores) {
  using Vector = simd::Vector<T>;
  for_each_score<T>(block, [&](std::int64_t offset, T, std::int64_t) {
    const Vector s = Vector::load_aligned(scores + offset);
    (Vector(cap) * xsimd::tanh(s / Vector(cap))).store_aligned(scores + offset);
  });
}

// s -= slope |i - j|
template <class T>
void add_alibi(const QueryTile<T>& tile, const KeyBlock& block, T slope, T* scores) {
  using Vector = simd::Vector<T>;
  for_each_score<T>(block, [&](std::int64_t offset, T key, std::int64_t column) {
    const Vector distance = xsimd::abs(Vector::load_aligned(tile.position + column) - Vector(key));
    const Vector s = Vector::load_aligned(scores + offset);
    xsimd::fnma(Vector(slope), distance, s).store_aligned(scores + offset);
  });
}

// s = -infinity where the query does not see the key.
template <class T>
void mask(const QueryTile<T>& tile, const KeyBlock& block, T* scores) {
  using Vector = simd::Vector<T>;
  const Vector hidden(-std::numeric_limits<T>::infinity());
  for_each_score<T>(block, [&](std::int64_t offset, T key, std::int64_t column) {
    const auto sees = Vector::load_aligned(tile.key_begin + column) <= Vector(key) &&
                      Vector(key) < Vector::load_aligned(tile.key_end + column);
    xsimd::select(sees, Vector::load_aligned(scores + offset), hidden)
        .store_aligned(scores + offset);
  });
}

}  // namespace polyhead::ops
