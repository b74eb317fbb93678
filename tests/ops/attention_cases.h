// Attention problems for tests: packed, strided inputs with NaN in every gap, and a dense
// reference.
#pragma once

#include <cmath>
#include <limits>
#include <numeric>
#include <string>
#include <vector>

#include "framework/ops/attention.h"
#include "tests/support/compare.h"

namespace polyhead::testing {

struct AttentionCase {
  std::int64_t batch = 2, queries = 7, keys = 7, heads = 2, groups = 2, qk_dim = 4, v_dim = 4;
  bool causal = true;
  std::int64_t window = 0;
  double softcap = 0;
  bool alibi = false;
  std::int64_t query_offset = 0;
  std::int64_t document_length = 0;  // 0: one document

  std::string name() const {
    return fmt::format(
        "B={} Tq={} Tk={} H={} G={} K={} V={} causal={} window={} softcap={} alibi={} offset={} "
        "documents={}",
        batch, queries, keys, heads, groups, qk_dim, v_dim, causal, window, softcap, alibi,
        query_offset, document_length);
  }
};

inline void fill(Tensor& x, double value) {
  dispatch_cpu_float(x.dtype(), [&]<class T>() {
    std::fill_n(x.data<T>(), (x.rows() - 1) * x.row_stride() + x.cols(), static_cast<T>(value));
  });
}

// (n, h, d) as (n * h, d), copied.
inline Tensor values_of(const ops::HeadView& view) {
  Tensor values =
      Tensor::empty({view.columns.rows(), view.heads, view.head_dim}, view.columns.dtype());
  dispatch_cpu_float(view.columns.dtype(), [&]<class T>() {
    T* to = values.data<T>();
    for (std::int64_t n = 0; n < view.columns.rows(); ++n) {
      for (std::int64_t h = 0; h < view.heads; ++h) {
        const T* from =
            view.columns.data<T>() + n * view.columns.row_stride() + h * view.head_stride;
        to = std::copy_n(from, view.head_dim, to);
      }
    }
  });
  return values;
}

// q, k and v as columns of one tensor, and a gap behind every head.
struct PackedHeads {
  static constexpr std::int64_t kGap = 3;

  PackedHeads(const AttentionCase& c, DType dtype) {
    const std::int64_t rows = std::max(c.queries, c.keys) * c.batch;
    const std::int64_t q_columns = c.heads * (c.qk_dim + kGap);
    const std::int64_t k_columns = c.groups * (c.qk_dim + kGap);
    const std::int64_t v_columns = c.groups * (c.v_dim + kGap);
    packed = Tensor::empty({rows, q_columns + k_columns + v_columns}, dtype);
    fill(packed, std::numeric_limits<double>::quiet_NaN());
    const auto view = [&](std::int64_t first, std::int64_t columns, std::int64_t view_rows,
                          std::int64_t heads, std::int64_t dim) {
      return ops::HeadView{packed.column_slice(first, first + columns).row_slice(0, view_rows),
                           heads, dim, dim + kGap};
    };
    q = view(0, q_columns, c.batch * c.queries, c.heads, c.qk_dim);
    k = view(q_columns, k_columns, c.batch * c.keys, c.groups, c.qk_dim);
    v = view(q_columns + k_columns, v_columns, c.batch * c.keys, c.groups, c.v_dim);
  }

  std::int64_t count_numbers() const {
    std::int64_t numbers = 0;
    for (std::int64_t row = 0; row < packed.rows(); ++row) {
      for (std::int64_t col = 0; col < packed.cols(); ++col) {
        numbers += !std::isnan(at(packed, row, col));
      }
    }
    return numbers;
  }

  Tensor packed;
  ops::HeadView q, k, v;
};

inline void fill_random(ops::HeadView& view, std::string_view name) {
  const Tensor random =
      random_tensor({view.columns.rows(), view.heads * view.head_dim}, DType::kF64, name);
  dispatch_cpu_float(view.columns.dtype(), [&]<class T>() {
    for (std::int64_t n = 0; n < view.columns.rows(); ++n) {
      for (std::int64_t h = 0; h < view.heads; ++h) {
        for (std::int64_t d = 0; d < view.head_dim; ++d) {
          view.columns.data<T>()[n * view.columns.row_stride() + h * view.head_stride + d] =
              static_cast<T>(at(random, n, h * view.head_dim + d));
        }
      }
    }
  });
}

struct AttentionProblem {
  AttentionProblem(const AttentionCase& c, DType dtype)
      : shape(c), inputs(c, dtype), gradients(c, dtype) {
    fill_random(inputs.q, "q");
    fill_random(inputs.k, "k");
    fill_random(inputs.v, "v");
    const std::int64_t rows = c.batch * c.queries;
    out = ops::heads_of(Tensor::empty({rows, c.heads * c.v_dim}, dtype), c.heads);
    dout = ops::heads_of(Tensor::empty({rows, c.heads * c.v_dim}, dtype), c.heads);
    fill(out.columns, std::numeric_limits<double>::quiet_NaN());
    fill_random(dout, "dout");
    lse = Tensor::empty({c.batch, c.heads, c.queries}, dtype);
    fill(lse, std::numeric_limits<double>::quiet_NaN());
    spec.scale = 1 / std::sqrt(static_cast<double>(c.qk_dim));
    spec.causal = c.causal;
    spec.window = c.window;
    spec.softcap = c.softcap;
    spec.query_offset = c.query_offset;
    if (c.alibi) spec.alibi_slopes = ops::alibi_slopes(c.heads, dtype);
    if (c.document_length > 0) {
      spec.document_start = Tensor::empty({rows}, DType::kI32);
      for (std::int64_t row = 0; row < rows; ++row) {
        const std::int64_t position = c.query_offset + row % c.queries;
        spec.document_start.data<std::int32_t>()[row] =
            static_cast<std::int32_t>(position / c.document_length * c.document_length);
      }
    }
  }

  void forward() {
    ops::attention_forward(inputs.q, inputs.k, inputs.v, shape.batch, spec, out, lse);
  }
  void backward() {
    ops::attention_backward(dout, inputs.q, inputs.k, inputs.v, out, lse, shape.batch, spec,
                            gradients.q, gradients.k, gradients.v);
  }

  AttentionCase shape;
  PackedHeads inputs, gradients;
  ops::HeadView out, dout;
  Tensor lse;
  ops::AttentionSpec spec;
};

// The definition, one pair at a time, in f64.
inline void dense_attention(const AttentionProblem& p, Tensor& out, Tensor& lse) {
  const AttentionCase& c = p.shape;
  const auto head_row = [](const ops::HeadView& view, std::int64_t n, std::int64_t h) {
    return view.columns.data<double>() + n * view.columns.row_stride() + h * view.head_stride;
  };
  out = Tensor::zeros({c.batch * c.queries, c.heads, c.v_dim}, DType::kF64);
  lse = Tensor::empty({c.batch, c.heads, c.queries}, DType::kF64);
  std::vector<double> scores(static_cast<std::size_t>(c.keys));
  for (std::int64_t n = 0; n < c.batch * c.queries; ++n) {
    const std::int64_t b = n / c.queries, i = c.query_offset + n % c.queries;
    for (std::int64_t h = 0; h < c.heads; ++h) {
      const std::int64_t g = h / (c.heads / c.groups);
      const double* const query = head_row(p.inputs.q, n, h);
      double maximum = -std::numeric_limits<double>::infinity();
      for (std::int64_t j = 0; j < c.keys; ++j) {
        double& s = scores[static_cast<std::size_t>(j)];
        s = p.spec.scale * std::inner_product(query, query + c.qk_dim,
                                              head_row(p.inputs.k, b * c.keys + j, g), 0.0);
        if (c.softcap > 0) s = c.softcap * std::tanh(s / c.softcap);
        if (c.alibi) s -= at(p.spec.alibi_slopes, 0, h) * static_cast<double>(std::abs(i - j));
        bool visible = !(c.causal && j > i) && !(c.window > 0 && j <= i - c.window);
        if (c.document_length > 0)
          visible = visible && j >= i / c.document_length * c.document_length;
        if (!visible) s = -std::numeric_limits<double>::infinity();
        maximum = std::max(maximum, s);
      }
      double denominator = 0;
      for (double s : scores) denominator += std::isinf(s) ? 0 : std::exp(s - maximum);
      lse.data<double>()[(b * c.heads + h) * c.queries + n % c.queries] =
          denominator > 0 ? maximum + std::log(denominator) : maximum;
      for (std::int64_t j = 0; j < c.keys; ++j) {
        const double s = scores[static_cast<std::size_t>(j)];
        if (std::isinf(s)) continue;
        const double* const value = head_row(p.inputs.v, b * c.keys + j, g);
        double* const sum = out.data<double>() + (n * c.heads + h) * c.v_dim;
        for (std::int64_t d = 0; d < c.v_dim; ++d) {
          sum[d] += std::exp(s - maximum) / denominator * value[d];
        }
      }
    }
  }
}

}  // namespace polyhead::testing
