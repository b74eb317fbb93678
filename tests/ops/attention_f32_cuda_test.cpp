// Attention in f32 on CUDA against the CPU's in f64.
#include <gtest/gtest.h>

#include "tests/ops/attention_cases.h"

namespace polyhead {
namespace {

using ops::HeadView;
using testing::AttentionCase;
using testing::AttentionProblem;
using testing::values_of;

constexpr double kTolerance = 1e-5;
constexpr double kInfinity = std::numeric_limits<double>::infinity();

// The same problem with all its tensors on the other device, in the same layout.
AttentionProblem moved(const AttentionProblem& problem, Device device) {
  AttentionProblem result = problem;
  for (testing::PackedHeads* heads : {&result.inputs, &result.gradients}) {
    const Tensor packed = heads->packed.to(device);
    for (HeadView* view : {&heads->q, &heads->k, &heads->v}) {
      const Tensor& columns = view->columns;
      const std::int64_t begin = columns.data<float>() - heads->packed.data<float>();
      view->columns =
          packed.column_slice(begin, begin + columns.cols()).row_slice(0, columns.rows());
    }
    heads->packed = packed;
  }
  for (Tensor* tensor : {&result.out.columns, &result.dout.columns, &result.lse,
                         &result.spec.alibi_slopes, &result.spec.document_start}) {
    if (*tensor) *tensor = tensor->to(device);
  }
  return result;
}

AttentionProblem solved_on_cuda(const AttentionProblem& host) {
  AttentionProblem problem = moved(host, Device::kCuda);
  problem.forward();
  problem.backward();
  return moved(problem, Device::kCpu);
}

// Shapes on both sides of a tile's 32 rows and of a lane's 2, 4 and 8 columns; every n-th
// combination of the options, n prime to the number of values of each.
std::vector<AttentionCase> cases() {
  const AttentionCase shapes[] = {
      {.batch = 2, .queries = 7, .keys = 7, .heads = 2, .groups = 2, .qk_dim = 4, .v_dim = 4},
      {.batch = 1, .queries = 83, .keys = 83, .heads = 6, .groups = 2, .qk_dim = 5, .v_dim = 67},
      {.batch = 2, .queries = 65, .keys = 141, .heads = 3, .groups = 1, .qk_dim = 64, .v_dim = 64},
      {.batch = 1,
       .queries = 97,
       .keys = 96,
       .heads = 2,
       .groups = 1,
       .qk_dim = 192,
       .v_dim = 128}};
  std::vector<AttentionCase> result;
  std::size_t count = 0;
  for (AttentionCase c : shapes) {
    const std::int64_t T = c.queries;
    for (const bool causal : {true, false}) {
      for (const std::int64_t window : {std::int64_t{0}, std::int64_t{1}, std::int64_t{40}, T}) {
        for (const int bias : {0, 1, 2, 3}) {
          for (const std::int64_t documents : {0, 30}) {
            for (const std::int64_t offset : {std::int64_t{0}, c.keys - c.queries + 3}) {
              c.causal = causal;
              c.window = window;
              c.alibi = (bias & 1) != 0;
              c.softcap = (bias & 2) != 0 ? 1.5 : 0;
              c.document_length = documents;
              c.query_offset = std::max<std::int64_t>(0, offset);
              if (count++ % 5 == 0) result.push_back(c);
            }
          }
        }
      }
    }
  }
  result.push_back({.batch = 1,
                    .queries = 40,
                    .keys = 40,
                    .heads = 2,
                    .groups = 2,
                    .qk_dim = 256,
                    .v_dim = 256,
                    .window = 33,
                    .softcap = 20,
                    .alibi = true});
  return result;
}

void expect_equal_with_infinities(const Tensor& got, const Tensor& want) {
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const double a = testing::at(got, i / got.cols(), i % got.cols());
    const double b = testing::at(want, i / got.cols(), i % got.cols());
    if (std::isinf(b)) {
      ASSERT_EQ(a, b) << "at " << i;
    } else {
      ASSERT_NEAR(a, b, kTolerance * std::max(1.0, std::abs(b))) << "at " << i;
    }
  }
}

// Compares with f64, and sees that gradients fill the heads and leave the gaps alone.
TEST(AttentionF32Cuda, MatchesDoubleOnTheCpu) {
  double worst_out = 0, worst_gradient = 0;
  for (const AttentionCase& c : cases()) {
    SCOPED_TRACE(c.name());
    AttentionProblem exact(c, DType::kF64);
    exact.forward();
    exact.backward();
    const AttentionProblem got = solved_on_cuda(AttentionProblem(c, DType::kF32));
    ASSERT_EQ(got.gradients.count_numbers(), got.inputs.count_numbers());
    const double out_error =
        testing::relative_error(values_of(got.out), values_of(exact.out), 1e-3);
    ASSERT_LE(out_error, kTolerance);
    worst_out = std::max(worst_out, out_error);
    expect_equal_with_infinities(got.lse, exact.lse);
    // Where a query sees itself alone, dq and dk are 0: what is computed is noise of dv's size.
    const double largest = std::max({testing::max_abs(values_of(exact.gradients.q)),
                                     testing::max_abs(values_of(exact.gradients.k)),
                                     testing::max_abs(values_of(exact.gradients.v))});
    const double floor = c.causal && c.window == 1 ? largest : 1e-3 * largest;
    const auto compare = [&](const char* name, const HeadView& a, const HeadView& b) {
      const double error = testing::relative_error(values_of(a), values_of(b), floor);
      EXPECT_LE(error, kTolerance) << name;
      worst_gradient = std::max(worst_gradient, error);
    };
    compare("dq", got.gradients.q, exact.gradients.q);
    compare("dk", got.gradients.k, exact.gradients.k);
    compare("dv", got.gradients.v, exact.gradients.v);
  }
  std::printf("worst relative error: out %.2e, gradients %.2e\n", worst_out, worst_gradient);
}

TEST(AttentionF32Cuda, QueriesWithoutKeysGiveZero) {
  const AttentionProblem got = solved_on_cuda(AttentionProblem(
      {.queries = 70, .keys = 40, .window = 8, .softcap = 2, .alibi = true}, DType::kF32));
  for (std::int64_t n = 0; n < 140; ++n) {
    if (n % 70 < 47) continue;
    EXPECT_EQ(testing::max_abs(got.out.columns.row_slice(n, n + 1)), 0);
    EXPECT_EQ(testing::max_abs(values_of(got.gradients.q).row_slice(n, n + 1)), 0);
    EXPECT_EQ(testing::at(got.lse, n / 70 * 2, n % 70), -kInfinity);
  }
  EXPECT_EQ(got.gradients.count_numbers(), got.inputs.count_numbers());
}

TEST(AttentionF32Cuda, GivesTheSameBitsTwice) {
  const AttentionProblem host({.batch = 2,
                               .queries = 133,
                               .keys = 133,
                               .heads = 6,
                               .groups = 1,
                               .qk_dim = 24,
                               .v_dim = 40,
                               .window = 100},
                              DType::kF32);
  const AttentionProblem a = solved_on_cuda(host), b = solved_on_cuda(host);
  const auto expect_same = [](const HeadView& x, const HeadView& y) {
    EXPECT_TRUE(testing::bitwise_equal(values_of(x), values_of(y)));
  };
  expect_same(a.out, b.out);
  EXPECT_TRUE(testing::bitwise_equal(a.lse, b.lse));
  expect_same(a.gradients.q, b.gradients.q);
  expect_same(a.gradients.k, b.gradients.k);
  expect_same(a.gradients.v, b.gradients.v);
}

// What is not finite must reach the loss, where the step is refused.
TEST(AttentionF32Cuda, PassesNaNOn) {
  AttentionProblem host({.batch = 1, .queries = 35, .keys = 35}, DType::kF32);
  const std::int64_t row = 33;
  host.inputs.k.columns.data<float>()[row * host.inputs.k.columns.row_stride()] = NAN;
  const AttentionProblem got = solved_on_cuda(host);
  for (std::int64_t n = 0; n < 35; ++n) {
    EXPECT_EQ(std::isnan(testing::at(got.lse, 0, n)), n >= row);
    EXPECT_EQ(std::isnan(testing::at(got.out.columns, n, 0)), n >= row);
  }
}

TEST(AttentionF32Cuda, RefusesWideHeads) {
  const AttentionProblem host({.batch = 1, .qk_dim = 257}, DType::kF32);
  EXPECT_THROW(solved_on_cuda(host), std::logic_error);
}

}  // namespace
}  // namespace polyhead
