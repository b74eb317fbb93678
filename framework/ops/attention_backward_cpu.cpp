// The backward pass: one sweep over the pairs gives the gradients of q, k and v.
//
//   D_i = dout_i . out_i;  P = exp(S - lse);  dP = dout V^T;  dS = P (dP - D)
//   dQ = scale dS K;  dK = scale dS^T Q;  dV = P^T dout
//
// A task is one run of query tiles for all heads of one (batch, group), see attention_runs.h: it
// owns its rows of dq, and sums dk and dv over its queries into memory of its own.
#include <omp.h>

#include "framework/dispatch.h"
#include "framework/ops/attention_runs.h"
#include "framework/ops/attention_scores.h"
#include "framework/ops/transpose.h"

namespace polyhead::ops::kernel {
namespace {

using simd::Vector;

template <class T>
struct Operands {
  const HeadView &dout, &q, &k, &v, &out;
  const Tensor& lse;
  const AttentionSpec& spec;
  HeadView &dq, &dk, &dv;
  std::int64_t batch;
  std::int64_t queries = q.columns.rows() / batch;
  std::int64_t keys = k.columns.rows() / batch;
  std::int64_t padded_qk_dim = simd::round_up_to_width<T>(q.head_dim);
  std::int64_t padded_v_dim = simd::round_up_to_width<T>(v.head_dim);
};

// The working memory of one thread. Rows of q and dout are copied so that they are aligned and end
// in zeros.
template <class T>
struct Scratch {
  Scratch(T* memory, const Operands<T>& x)
      : q_t{memory, kTileQueries},
        dout_t{q_t.row(x.q.head_dim), kTileQueries},
        dq_t{dout_t.row(x.v.head_dim), kTileQueries},
        q{dq_t.row(x.q.head_dim), x.padded_qk_dim},
        dout{q.row(kTileQueries), x.padded_v_dim},
        weights{dout.row(kTileQueries), kTileQueries},
        dscores{weights.row(kBlockKeys), kTileQueries},
        cap_slope{dscores.row(kBlockKeys), kTileQueries},
        lse(cap_slope.row(kBlockKeys)),
        delta(lse + kTileQueries) {}

  Panel<T> q_t;        // (K, tile), times scale
  Panel<T> dout_t;     // (V, tile)
  Panel<T> dq_t;       // (K, tile), to be multiplied by scale
  Panel<T> q;          // (tile, K), times scale
  Panel<T> dout;       // (tile, V)
  Panel<T> weights;    // (block, tile) scores, then P
  Panel<T> dscores;    // (block, tile) dP, then dS
  Panel<T> cap_slope;  // (block, tile) derivative of the soft-cap
  T* lse;              // (tile)
  T* delta;            // (tile) D
};

// rows x columns of `from` times `factor`; the rest of `to`'s rows is zero.
template <class T>
void copy_rows(std::int64_t rows, std::int64_t columns, const MatrixView<T>& from, T factor,
               const Panel<T>& to) {
  for (std::int64_t i = 0; i < rows; ++i) {
    const T* const source = from.data + i * from.row_stride;
    T* const target = to.row(i);
    for (std::int64_t j = 0; j < columns; ++j) target[j] = factor * source[j];
    std::fill(target + columns, target + to.stride, T(0));
  }
}

template <class T>
T dot(std::int64_t n, const T* a, const T* b) {
  return simd::sum<T>(n, [&](std::int64_t i, auto lanes) {
    return simd::load(a + i, lanes) * simd::load(b + i, lanes);
  });
}

template <class T>
void load_tile(const Operands<T>& x, const QueryTile<T>& tile, std::int64_t head, const T* lse,
               const Scratch<T>& scratch) {
  const std::int64_t qk_dim = x.q.head_dim, v_dim = x.v.head_dim;
  const MatrixView<T> q = rows_of_head<T>(x.q, tile.first, head);
  const MatrixView<T> dout = rows_of_head<T>(x.dout, tile.first, head);
  const MatrixView<T> out = rows_of_head<T>(x.out, tile.first, head);
  const T scale = static_cast<T>(x.spec.scale);
  if (tile.count < tile.columns) {
    // Columns behind the last query: their weights and gradients come out as zero.
    std::fill_n(scratch.q_t.data, qk_dim * kTileQueries, T(0));
    std::fill_n(scratch.dout_t.data, v_dim * kTileQueries, T(0));
    std::fill(scratch.q.row(tile.count), scratch.q.row(tile.columns), T(0));
    std::fill(scratch.dout.row(tile.count), scratch.dout.row(tile.columns), T(0));
    std::fill(scratch.delta + tile.count, scratch.delta + tile.columns, T(0));
  }
  transpose(tile.count, qk_dim, q.data, q.row_stride, scale, scratch.q_t.data, kTileQueries);
  transpose(tile.count, v_dim, dout.data, dout.row_stride, T(1), scratch.dout_t.data, kTileQueries);
  std::fill_n(scratch.dq_t.data, qk_dim * kTileQueries, T(0));
  copy_rows(tile.count, qk_dim, q, scale, scratch.q);
  copy_rows(tile.count, v_dim, dout, T(1), scratch.dout);
  for (std::int64_t i = 0; i < tile.count; ++i) {
    scratch.delta[i] = dot(v_dim, dout.data + i * dout.row_stride, out.data + i * out.row_stride);
  }
  // A query that sees no key has lse = -infinity; +infinity makes its weights zero instead of NaN.
  const T infinity = std::numeric_limits<T>::infinity();
  for (std::int64_t i = 0; i < tile.columns; ++i) {
    scratch.lse[i] = i < tile.count && lse[i] != -infinity ? lse[i] : infinity;
  }
}

// Scores and dP become P and dS.
template <class T>
void differentiate_softmax(const KeyBlock& block, const Scratch<T>& scratch) {
  for_each_score<T>(block, [&](std::int64_t offset, T, std::int64_t column) {
    T* const weight = scratch.weights.data + offset;
    T* const dscore = scratch.dscores.data + offset;
    const Vector<T> p =
        xsimd::exp(Vector<T>::load_aligned(weight) - Vector<T>::load_aligned(scratch.lse + column));
    p.store_aligned(weight);
    (p * (Vector<T>::load_aligned(dscore) - Vector<T>::load_aligned(scratch.delta + column)))
        .store_aligned(dscore);
  });
}

// The derivative of the soft-cap at capped scores: 1 - (s / cap)^2.
template <class T>
void differentiate_soft_cap(const KeyBlock& block, T cap, const Scratch<T>& scratch) {
  for_each_score<T>(block, [&](std::int64_t offset, T, std::int64_t) {
    const Vector<T> ratio = Vector<T>::load_aligned(scratch.weights.data + offset) / Vector<T>(cap);
    xsimd::fnma(ratio, ratio, Vector<T>(T(1))).store_aligned(scratch.cap_slope.data + offset);
  });
}

template <class T>
void multiply_by_cap_slope(const KeyBlock& block, const Scratch<T>& scratch) {
  for_each_score<T>(block, [&](std::int64_t offset, T, std::int64_t) {
    T* const dscore = scratch.dscores.data + offset;
    (Vector<T>::load_aligned(dscore) * Vector<T>::load_aligned(scratch.cap_slope.data + offset))
        .store_aligned(dscore);
  });
}

// Adds the tile's part to the sums of dk and dv, whose row 0 belongs to key `first_key`, and writes
// its rows of dq.
template <class T>
void backward_tile(const Operands<T>& x, const QueryTile<T>& tile, std::int64_t b,
                   std::int64_t head, const Scratch<T>& scratch, std::int64_t first_key,
                   const Panel<T>& dk_sum, const Panel<T>& dv_sum) {
  const std::int64_t group = head / (x.q.heads / x.k.heads);
  const ScoreOptions<T> options(x.spec, head);
  const auto as_input = [](const Panel<T>& panel) {
    return Panel<const T>{panel.data, panel.stride};
  };

  tile.for_each_key_block([&](const KeyBlock& block) {
    const std::int64_t column = block.first_column;
    const MatrixView<T> keys = rows_of_head<T>(x.k, b * x.keys + block.begin, group);
    const MatrixView<T> values = rows_of_head<T>(x.v, b * x.keys + block.begin, group);
    const Panel<T> weights = scratch.weights.columns_from(column);
    const Panel<T> dscores = scratch.dscores.columns_from(column);

    tile_product<Accumulate::kNo>(block.keys(), block.columns(), x.q.head_dim, keys,
                                  as_input(scratch.q_t.columns_from(column)), weights);
    tile_product<Accumulate::kNo>(block.keys(), block.columns(), x.v.head_dim, values,
                                  as_input(scratch.dout_t.columns_from(column)), dscores);
    if (options.softcap > 0) {
      soft_cap(block, options.softcap, scratch.weights.data);
      differentiate_soft_cap(block, options.softcap, scratch);
    }
    if (options.slope != 0) add_alibi(tile, block, options.slope, scratch.weights.data);
    if (block.masked) mask(tile, block, scratch.weights.data);
    differentiate_softmax(block, scratch);
    if (options.softcap > 0) multiply_by_cap_slope(block, scratch);

    tile_product<Accumulate::kYes>(block.keys(), x.padded_v_dim, block.columns(),
                                   MatrixView<T>{weights.data, weights.stride, 1},
                                   Panel<const T>{scratch.dout.row(column), x.padded_v_dim},
                                   Panel<T>{dv_sum.row(block.begin - first_key), dv_sum.stride});
    tile_product<Accumulate::kYes>(block.keys(), x.padded_qk_dim, block.columns(),
                                   MatrixView<T>{dscores.data, dscores.stride, 1},
                                   Panel<const T>{scratch.q.row(column), x.padded_qk_dim},
                                   Panel<T>{dk_sum.row(block.begin - first_key), dk_sum.stride});
    tile_product<Accumulate::kYes>(x.q.head_dim, block.columns(), block.keys(), keys.transposed(),
                                   as_input(dscores), scratch.dq_t.columns_from(column));
  });

  const std::int64_t dq_stride = x.dq.columns.row_stride();
  transpose(x.q.head_dim, tile.count, scratch.dq_t.data, kTileQueries, static_cast<T>(x.spec.scale),
            x.dq.columns.template data<T>() + tile.first * dq_stride + head * x.dq.head_stride,
            dq_stride);
}

template <class T>
void backward(const Operands<T>& x) {
  const std::int64_t groups = x.k.heads, heads_per_group = x.q.heads / groups;
  const std::int64_t pairs = x.batch * groups;
  const std::vector<QueryRun> runs = cut_into_runs(x.spec, pairs, x.queries, x.keys);
  const std::int64_t rows = partial_rows(runs);
  Tensor dk_sums = Tensor::empty({pairs, rows, x.padded_qk_dim}, dtype_of<T>());
  Tensor dv_sums = Tensor::empty({pairs, rows, x.padded_v_dim}, dtype_of<T>());
  Tensor memory = Tensor::empty(
      {omp_get_max_threads(), backward_thread_elements<T>(x.q.head_dim, x.v.head_dim)},
      dtype_of<T>());
  const auto sums_of = [&](Tensor& sums, std::int64_t pair) {
    return Panel<T>{sums.data<T>() + pair * rows * sums.cols(), sums.cols()};
  };
  const auto run_count = static_cast<std::int64_t>(runs.size());

#pragma omp parallel
  {
    const Scratch<T> scratch(memory.data<T>() + omp_get_thread_num() * memory.cols(), x);
#pragma omp for collapse(2) schedule(dynamic)
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      for (std::int64_t index = 0; index < run_count; ++index) {
        const QueryRun& run = runs[static_cast<std::size_t>(index)];
        const std::int64_t b = pair / groups, group = pair % groups;
        const Panel<T> all_dk = sums_of(dk_sums, pair), all_dv = sums_of(dv_sums, pair);
        const Panel<T> dk_sum{all_dk.row(run.partial_row), all_dk.stride};
        const Panel<T> dv_sum{all_dv.row(run.partial_row), all_dv.stride};
        std::fill(dk_sum.row(0), dk_sum.row(run.key_count()), T(0));
        std::fill(dv_sum.row(0), dv_sum.row(run.key_count()), T(0));
        for (std::int64_t n = 0; n < heads_per_group; ++n) {
          const std::int64_t head = group * heads_per_group + n;
          const T* const lse = x.lse.template data<T>() + (b * x.q.heads + head) * x.queries;
          for (std::int64_t t = run.tile_begin; t < run.tile_end; ++t) {
            const QueryTile<T> tile(x.spec, b, t, x.queries, x.keys);
            load_tile(x, tile, head, lse + t * kTileQueries, scratch);
            backward_tile(x, tile, b, head, scratch, run.keys.begin, dk_sum, dv_sum);
          }
        }
      }
    }
#pragma omp for collapse(2)
    for (std::int64_t pair = 0; pair < pairs; ++pair) {
      for (std::int64_t key = 0; key < x.keys; ++key) {
        const std::int64_t row = pair / groups * x.keys + key, group = pair % groups;
        const auto row_of = [&](HeadView& view) {
          return view.columns.data<T>() + row * view.columns.row_stride() +
                 group * view.head_stride;
        };
        add_runs<T>(runs, sums_of(dk_sums, pair), key, x.k.head_dim, row_of(x.dk));
        add_runs<T>(runs, sums_of(dv_sums, pair), key, x.v.head_dim, row_of(x.dv));
      }
    }
  }
}

}  // namespace

template <>
bool attention_backward<Device::kCpu>(const HeadView& dout, const HeadView& q, const HeadView& k,
                                      const HeadView& v, const HeadView& out, const Tensor& lse,
                                      std::int64_t batch, const AttentionSpec& spec, HeadView& dq,
                                      HeadView& dk, HeadView& dv) {
  dispatch_cpu_float(q.columns.dtype(), [&]<class T>() {
    backward<T>({dout, q, k, v, out, lse, spec, dq, dk, dv, batch});
  });
  return false;
}

}  // namespace polyhead::ops::kernel
