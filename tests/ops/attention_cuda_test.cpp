// Attention in bf16 on CUDA against the CPU's in f64 on the same rounded inputs.
#include <gtest/gtest.h>

#include <utility>

#include "tests/ops/attention_cases.h"
#include "tests/support/cuda.h"

namespace polyhead {
namespace {

using ops::HeadView;
using testing::AttentionCase;
using testing::AttentionProblem;
using testing::values_of;

// P, dS and the results are rounded to bf16 (2^-9); measured: see the output of the tests.
constexpr double kOutTolerance = 1e-2, kGradientTolerance = 2e-2, kLseTolerance = 1e-3;

// Heads with `gap` NaN behind each: 8 keeps every address a multiple of 16 bytes, 3 does not.
HeadView on_cuda(const Tensor& values, std::int64_t gap) {  // (N, heads, dim)
  const std::int64_t rows = values.shape()[0], heads = values.shape()[1], dim = values.shape()[2];
  Tensor packed = Tensor::empty({rows, heads * (dim + gap)}, DType::kF64);
  testing::fill(packed, std::numeric_limits<double>::quiet_NaN());
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t d = 0; d < dim; ++d) {
        packed.data<double>()[row * packed.cols() + h * (dim + gap) + d] =
            testing::at(values, row * heads + h, d);
      }
    }
  }
  return {testing::to_cuda(packed, DType::kBf16), heads, dim, dim + gap};
}

HeadView poisoned_like(const HeadView& view) {
  Tensor nan = Tensor::empty(view.columns.shape(), DType::kF64);
  testing::fill(nan, std::numeric_limits<double>::quiet_NaN());
  return {testing::to_cuda(nan, DType::kBf16), view.heads, view.head_dim, view.head_stride};
}

// The values of a view on the device; its gaps must still be NaN.
Tensor result_of(const HeadView& view) {
  HeadView host = view;
  host.columns = testing::to_host(view.columns);
  const std::int64_t gap = view.head_stride - view.head_dim;
  for (std::int64_t row = 0; row < host.columns.rows(); ++row) {
    for (std::int64_t h = 0; h < view.heads; ++h) {
      for (std::int64_t d = 0; d < gap; ++d) {
        EXPECT_TRUE(
            std::isnan(testing::at(host.columns, row, h * view.head_stride + view.head_dim + d)))
            << "gap of row " << row << ", head " << h;
      }
    }
  }
  return values_of(host);
}

void round(HeadView& view) {
  for (std::int64_t row = 0; row < view.columns.rows(); ++row) {
    double* const data = view.columns.data<double>() + row * view.columns.row_stride();
    for (std::int64_t i = 0; i < view.columns.cols(); ++i) {
      data[i] = to_float(to_bf16(static_cast<float>(data[i])));
    }
  }
}

struct Results {
  Tensor out, lse, dq, dk, dv;
};

// How dq and dk are turned back, where there is a table: by the backward itself or behind it.
enum class Turned { kWithin, kBehind };

Results solved_on_cuda(const AttentionProblem& exact, std::int64_t gap,
                       const ops::RopeTable& table = {}, Turned turned = Turned::kWithin) {
  const HeadView q = on_cuda(values_of(exact.inputs.q), gap);
  const HeadView k = on_cuda(values_of(exact.inputs.k), gap);
  const HeadView v = on_cuda(values_of(exact.inputs.v), gap);
  const HeadView dout = on_cuda(values_of(exact.dout), gap);
  HeadView out = poisoned_like(dout);
  HeadView dq = poisoned_like(q), dk = poisoned_like(k), dv = poisoned_like(v);
  Tensor nan = Tensor::empty(exact.lse.shape(), DType::kF64);
  testing::fill(nan, std::numeric_limits<double>::quiet_NaN());
  Tensor lse = testing::to_cuda(nan, DType::kF32);
  ops::AttentionSpec spec = exact.spec;
  if (spec.alibi_slopes) spec.alibi_slopes = testing::to_cuda(spec.alibi_slopes, DType::kF32);
  if (spec.document_start) spec.document_start = spec.document_start.to(Device::kCuda);
  const std::int64_t batch = exact.shape.batch;
  ops::attention_forward(q, k, v, batch, spec, out, lse);
  if (turned == Turned::kWithin) spec.rotated_by = table;
  ops::attention_backward(dout, q, k, v, out, lse, batch, spec, dq, dk, dv);
  if (turned == Turned::kBehind) {
    ops::rope(table, exact.shape.queries, ops::Rotation::kBackward, dq);
    ops::rope(table, exact.shape.keys, ops::Rotation::kBackward, dk);
  }
  return {result_of(out), testing::to_host(lse), result_of(dq), result_of(dk), result_of(dv)};
}

AttentionProblem exact_problem(const AttentionCase& c) {
  AttentionProblem problem(c, DType::kF64);
  for (HeadView* view : {&problem.inputs.q, &problem.inputs.k, &problem.inputs.v, &problem.dout}) {
    round(*view);
  }
  return problem;
}

// Shapes on both sides of tiles of 64 and 128 queries and of every compiled pair of dimensions;
// every n-th combination of the options, n prime to the number of values of each.
std::vector<AttentionCase> cases() {
  const auto shape = [](std::int64_t batch, std::int64_t queries, std::int64_t keys,
                        std::int64_t heads, std::int64_t groups, std::int64_t qk_dim,
                        std::int64_t v_dim) {
    return AttentionCase{.batch = batch,
                         .queries = queries,
                         .keys = keys,
                         .heads = heads,
                         .groups = groups,
                         .qk_dim = qk_dim,
                         .v_dim = v_dim};
  };
  const AttentionCase shapes[] = {
      shape(2, 1, 1, 2, 2, 64, 64),       shape(2, 7, 7, 4, 2, 8, 16),
      shape(1, 64, 64, 2, 1, 64, 64),     shape(2, 65, 65, 3, 1, 80, 96),
      shape(1, 129, 129, 6, 2, 128, 128), shape(1, 333, 333, 2, 1, 128, 128),
      shape(2, 97, 200, 2, 2, 64, 40),    shape(1, 140, 140, 4, 2, 192, 128),
      shape(1, 100, 131, 2, 1, 256, 256), shape(1, 70, 70, 2, 2, 5, 67)};
  std::vector<AttentionCase> result;
  std::size_t count = 0;
  for (AttentionCase c : shapes) {
    for (const bool causal : {true, false}) {
      for (const std::int64_t window :
           {std::int64_t{0}, std::int64_t{3}, std::int64_t{40}, std::int64_t{150}}) {
        for (const int bias : {0, 1, 2, 3}) {
          for (const std::int64_t documents : {0, 30}) {
            for (const std::int64_t offset : {std::int64_t{0}, c.keys - c.queries + 3}) {
              c.causal = causal;
              c.window = window;
              c.alibi = (bias & 1) != 0;
              c.softcap = (bias & 2) != 0 ? 1.5 : 0;
              c.document_length = documents;
              c.query_offset = std::max<std::int64_t>(0, offset);
              if (bias == 0 && documents == 0 ? count++ % 3 == 0 : count++ % 11 == 0) {
                result.push_back(c);
              }
            }
          }
        }
      }
    }
  }
  return result;
}

struct WorstErrors {
  double out = 0, gradient = 0;

  ~WorstErrors() { std::printf("worst relative error: out %.2e, gradients %.2e\n", out, gradient); }
};

// Compares CUDA's results with those of a solved problem.
void expect_matches(const AttentionProblem& exact, std::int64_t gap, WorstErrors& worst) {
  SCOPED_TRACE(exact.shape.name() + (gap == 8 ? ", aligned" : ", unaligned"));
  const Results got = solved_on_cuda(exact, gap);
  const double out_error = testing::relative_error(got.out, values_of(exact.out), 1e-3);
  EXPECT_LE(out_error, kOutTolerance);
  worst.out = std::max(worst.out, out_error);
  for (std::int64_t i = 0; i < got.lse.numel(); ++i) {
    const double a = got.lse.data<float>()[i], b = exact.lse.data<double>()[i];
    if (std::isinf(b)) {
      ASSERT_EQ(a, b) << "lse " << i;
    } else {
      ASSERT_NEAR(a, b, kLseTolerance * std::max(1.0, std::abs(b))) << "lse " << i;
    }
  }
  const double largest = std::max({testing::max_abs(values_of(exact.gradients.q)),
                                   testing::max_abs(values_of(exact.gradients.k)),
                                   testing::max_abs(values_of(exact.gradients.v))});
  const auto compare = [&](const char* name, const Tensor& a, const HeadView& b) {
    const double error = testing::relative_error(a, values_of(b), std::max(0.1 * largest, 1e-3));
    EXPECT_LE(error, kGradientTolerance) << name;
    worst.gradient = std::max(worst.gradient, error);
  };
  compare("dq", got.dq, exact.gradients.q);
  compare("dk", got.dk, exact.gradients.k);
  compare("dv", got.dv, exact.gradients.v);
}

void expect_same_bits_twice(const AttentionProblem& exact) {
  const Results a = solved_on_cuda(exact, 8), b = solved_on_cuda(exact, 8);
  EXPECT_TRUE(testing::bitwise_equal(a.out, b.out));
  EXPECT_TRUE(testing::bitwise_equal(a.lse, b.lse));
  EXPECT_TRUE(testing::bitwise_equal(a.dq, b.dq));
  EXPECT_TRUE(testing::bitwise_equal(a.dk, b.dk));
  EXPECT_TRUE(testing::bitwise_equal(a.dv, b.dv));
}

TEST(AttentionCuda, MatchesDoubleOnTheCpu) {
  WorstErrors worst;
  for (const AttentionCase& c : cases()) {
    AttentionProblem exact = exact_problem(c);
    exact.forward();
    exact.backward();
    for (const std::int64_t gap : {8, 3}) {
      expect_matches(exact, gap, worst);
      if (HasFailure()) return;
    }
  }
}

// The largest score is not that of the largest product.
TEST(AttentionCuda, TakesAnyScale) {
  WorstErrors worst;
  for (const double scale : {-0.3, 0.0}) {
    AttentionProblem exact =
        exact_problem({.queries = 130, .keys = 130, .qk_dim = 64, .v_dim = 64});
    exact.spec.scale = scale;
    exact.forward();
    exact.backward();
    expect_matches(exact, 8, worst);
  }
}

// More blocks of keys than the device holds at once, which wait for their turns.
TEST(AttentionCuda, SumsOverBlocksInTurns) {
  WorstErrors worst;
  for (const bool causal : {true, false}) {
    AttentionProblem exact = exact_problem({.batch = 50,
                                            .queries = 500,
                                            .keys = 500,
                                            .heads = 8,
                                            .groups = 4,
                                            .qk_dim = 16,
                                            .v_dim = 16,
                                            .causal = causal});
    exact.forward();
    exact.backward();
    expect_matches(exact, 8, worst);
    expect_same_bits_twice(exact);
  }
}

ops::RopeTable rotary_table(std::int64_t rotary_dim, std::int64_t positions) {
  std::vector<double> frequencies;
  for (std::int64_t j = 0; j < rotary_dim / 2; ++j) {
    frequencies.push_back(
        std::pow(100.0, -2 * static_cast<double>(j) / static_cast<double>(rotary_dim)));
  }
  const ops::RopeTable table = ops::make_rope_table(frequencies, 1.25, positions, DType::kF32);
  return {table.cos.to(Device::kCuda), table.sin.to(Device::kCuda)};
}

TEST(AttentionCuda, TurnsGradientsBackAsTheRotationBehindIt) {
  struct Case {
    std::int64_t heads, groups, qk_dim, v_dim, rotary_dim, documents;
  };
  for (const Case& c :
       {Case{2, 2, 64, 64, 64, 0}, Case{4, 2, 64, 64, 64, 0}, Case{2, 2, 128, 128, 128, 0},
        Case{3, 1, 128, 128, 128, 0}, Case{2, 2, 192, 128, 192, 0}, Case{2, 1, 192, 128, 64, 0},
        Case{2, 2, 256, 256, 256, 0}, Case{2, 1, 96, 96, 96, 0},
        Case{2, 2, 64, 64, 32, 0},                               // a part of the dimensions
        Case{2, 2, 80, 80, 80, 0},                               // padded in shared memory
        Case{2, 2, 64, 64, 64, 50}, Case{4, 1, 64, 64, 64, 50},  // not Hopper's kernels
        Case{2, 1, 72, 72, 24, 0}}) {                            // no whole packs in the half of it
    for (const std::int64_t keys : {201, 333}) {
      for (const std::int64_t gap : {8, 3}) {
        const AttentionProblem problem = exact_problem({.batch = 3,
                                                        .queries = 201,
                                                        .keys = keys,
                                                        .heads = c.heads,
                                                        .groups = c.groups,
                                                        .qk_dim = c.qk_dim,
                                                        .v_dim = c.v_dim,
                                                        .document_length = c.documents});
        SCOPED_TRACE(
            fmt::format("{}, rotating {}, gap {}", problem.shape.name(), c.rotary_dim, gap));
        const ops::RopeTable table = rotary_table(c.rotary_dim, keys + 1);
        const Results within = solved_on_cuda(problem, gap, table, Turned::kWithin);
        const Results behind = solved_on_cuda(problem, gap, table, Turned::kBehind);
        EXPECT_TRUE(testing::bitwise_equal(within.dq, behind.dq));
        EXPECT_TRUE(testing::bitwise_equal(within.dk, behind.dk));
        EXPECT_TRUE(testing::bitwise_equal(within.dv, behind.dv));
        EXPECT_FALSE(testing::bitwise_equal(within.dk, solved_on_cuda(problem, gap).dk));
      }
    }
  }
}

TEST(AttentionCuda, GivesTheSameBitsTwice) {
  for (const auto& [qk_dim, v_dim] : {std::pair{64, 64}, {128, 128}, {192, 128}}) {
    for (const std::int64_t groups : {1, 2}) {
      expect_same_bits_twice(exact_problem({.batch = 2,
                                            .queries = 533,
                                            .keys = 533,
                                            .heads = 2,
                                            .groups = groups,
                                            .qk_dim = qk_dim,
                                            .v_dim = v_dim,
                                            .window = 400}));
    }
  }
}

}  // namespace
}  // namespace polyhead
