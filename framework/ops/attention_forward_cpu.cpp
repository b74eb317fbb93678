// The forward pass: an online softmax over the key blocks of each tile of queries.
#include <omp.h>

#include "framework/dispatch.h"
#include "framework/ops/attention_scores.h"
#include "framework/ops/transpose.h"

namespace polyhead::ops::kernel {
namespace {

using simd::kWidth;
using simd::Vector;

// The working memory of one thread: the state of one tile, transposed.
template <class T>
struct Scratch {
  static std::int64_t size(std::int64_t qk_dim, std::int64_t v_dim) {
    return (qk_dim + v_dim + kBlockKeys + 2) * kTileQueries;
  }
  Scratch(T* memory, std::int64_t qk_dim, std::int64_t v_dim)
      : q(memory),
        out(q + qk_dim * kTileQueries),
        scores(out + v_dim * kTileQueries),
        maximum(scores + kBlockKeys * kTileQueries),
        denominator(maximum + kTileQueries) {}

  T* q;            // (K, tile), times scale
  T* out;          // (V, tile), not yet divided by the denominator
  T* scores;       // (block, tile)
  T* maximum;      // (tile) of the scores so far
  T* denominator;  // (tile) sum of exp(score - maximum) so far
};

// A query that has seen no key yet has maximum -infinity: shift by 0 then, not -infinity.
template <class T>
Vector<T> shift_for(const Vector<T>& maximum) {
  const Vector<T> unseen(-std::numeric_limits<T>::infinity());
  return xsimd::select(maximum == unseen, Vector<T>(T(0)), maximum);
}

// Turns scores into exp(score - maximum) and rescales what was summed under the old maximum.
template <class T>
void online_softmax(const KeyBlock& block, std::int64_t v_dim, const Scratch<T>& scratch) {
  for (std::int64_t column = block.first_column; column < block.last_column; column += kWidth<T>) {
    const Vector<T> old_maximum = Vector<T>::load_aligned(scratch.maximum + column);
    Vector<T> maximum = old_maximum;
    T* const scores = scratch.scores + column;
    for (std::int64_t key = 0; key < block.keys(); ++key) {
      maximum = xsimd::max(maximum, Vector<T>::load_aligned(scores + key * kTileQueries));
    }
    const Vector<T> shift = shift_for<T>(maximum);
    Vector<T> denominator = Vector<T>::load_aligned(scratch.denominator + column);
    if (xsimd::any(maximum != old_maximum)) {
      const Vector<T> factor = xsimd::exp(old_maximum - shift);
      denominator *= factor;
      for (std::int64_t d = 0; d < v_dim; ++d) {
        T* const out = scratch.out + d * kTileQueries + column;
        (Vector<T>::load_aligned(out) * factor).store_aligned(out);
      }
    }
    for (std::int64_t key = 0; key < block.keys(); ++key) {
      T* const score = scores + key * kTileQueries;
      const Vector<T> weight = xsimd::exp(Vector<T>::load_aligned(score) - shift);
      weight.store_aligned(score);
      denominator += weight;
    }
    maximum.store_aligned(scratch.maximum + column);
    denominator.store_aligned(scratch.denominator + column);
  }
}

// out /= denominator; the place of `maximum` takes lse = maximum + log(denominator).
template <class T>
void finish_softmax(std::int64_t columns, std::int64_t v_dim, const Scratch<T>& scratch) {
  for (std::int64_t column = 0; column < columns; column += kWidth<T>) {
    const Vector<T> denominator = Vector<T>::load_aligned(scratch.denominator + column);
    const Vector<T> maximum = Vector<T>::load_aligned(scratch.maximum + column);
    const auto unseen = denominator == Vector<T>(T(0));
    const Vector<T> inverse = xsimd::select(unseen, Vector<T>(T(0)), Vector<T>(T(1)) / denominator);
    for (std::int64_t d = 0; d < v_dim; ++d) {
      T* const out = scratch.out + d * kTileQueries + column;
      (Vector<T>::load_aligned(out) * inverse).store_aligned(out);
    }
    xsimd::select(unseen, maximum, maximum + xsimd::log(denominator))
        .store_aligned(scratch.maximum + column);
  }
}

template <class T>
void forward_tile(const HeadView& q, const HeadView& k, const HeadView& v,
                  const AttentionSpec& spec, const QueryTile<T>& tile, std::int64_t first_key_row,
                  std::int64_t head, const Scratch<T>& scratch, HeadView& out, T* lse) {
  const std::int64_t qk_dim = q.head_dim, v_dim = v.head_dim;
  const std::int64_t group = head / (q.heads / k.heads);
  const ScoreOptions<T> options(spec, head);
  const Panel<T> scores{scratch.scores, kTileQueries}, out_t{scratch.out, kTileQueries};
  const Panel<const T> q_t{scratch.q, kTileQueries};

  std::fill_n(scratch.q, qk_dim * kTileQueries, T(0));
  const MatrixView<T> q_rows = rows_of_head<T>(q, tile.first, head);
  transpose(tile.count, qk_dim, q_rows.data, q_rows.row_stride, static_cast<T>(spec.scale),
            scratch.q, kTileQueries);
  std::fill_n(scratch.out, v_dim * kTileQueries, T(0));
  std::fill_n(scratch.maximum, kTileQueries, -std::numeric_limits<T>::infinity());
  std::fill_n(scratch.denominator, kTileQueries, T(0));

  tile.for_each_key_block([&](const KeyBlock& block) {
    const std::int64_t column = block.first_column;
    const MatrixView<T> keys = rows_of_head<T>(k, first_key_row + block.begin, group);
    const MatrixView<T> values = rows_of_head<T>(v, first_key_row + block.begin, group);
    tile_product<Accumulate::kNo>(block.keys(), block.columns(), qk_dim, keys,
                                  q_t.columns_from(column), scores.columns_from(column));
    if (options.softcap > 0) soft_cap(block, options.softcap, scratch.scores);
    if (options.slope != 0) add_alibi(tile, block, options.slope, scratch.scores);
    if (block.masked) mask(tile, block, scratch.scores);
    online_softmax(block, v_dim, scratch);
    tile_product<Accumulate::kYes>(v_dim, block.columns(), block.keys(), values.transposed(),
                                   Panel<const T>{scratch.scores + column, kTileQueries},
                                   out_t.columns_from(column));
  });

  finish_softmax(tile.columns, v_dim, scratch);
  std::copy_n(scratch.maximum, tile.count, lse);
  const std::int64_t out_stride = out.columns.row_stride();
  transpose(v_dim, tile.count, scratch.out, kTileQueries, T(1),
            out.columns.data<T>() + tile.first * out_stride + head * out.head_stride, out_stride);
}

template <class T>
void forward(const HeadView& q, const HeadView& k, const HeadView& v, std::int64_t batch,
             const AttentionSpec& spec, HeadView& out, Tensor& lse) {
  const std::int64_t queries = q.columns.rows() / batch, keys = k.columns.rows() / batch;
  const std::int64_t tiles = tiles_of(queries);
  Tensor memory = Tensor::empty({omp_get_max_threads(), Scratch<T>::size(q.head_dim, v.head_dim)},
                                dtype_of<T>());
#pragma omp parallel
  {
    const Scratch<T> scratch(memory.data<T>() + omp_get_thread_num() * memory.cols(), q.head_dim,
                             v.head_dim);
    // Late tiles see most keys: long tasks first.
#pragma omp for collapse(3) schedule(dynamic)
    for (std::int64_t tile = tiles - 1; tile >= 0; --tile) {
      for (std::int64_t b = 0; b < batch; ++b) {
        for (std::int64_t head = 0; head < q.heads; ++head) {
          forward_tile<T>(q, k, v, spec, QueryTile<T>(spec, b, tile, queries, keys), b * keys, head,
                          scratch, out,
                          lse.data<T>() + (b * q.heads + head) * queries + tile * kTileQueries);
        }
      }
    }
  }
}

}  // namespace

template <>
void attention_forward<Device::kCpu>(const HeadView& q, const HeadView& k, const HeadView& v,
                                     std::int64_t batch, const AttentionSpec& spec, HeadView& out,
                                     Tensor& lse) {
  dispatch_cpu_float(q.columns.dtype(),
                     [&]<class T>() { forward<T>(q, k, v, batch, spec, out, lse); });
}

}  // namespace polyhead::ops::kernel
