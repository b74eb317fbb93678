#include "framework/ops/attention.h"

#include <gtest/gtest.h>
#include <omp.h>
#include <sys/resource.h>

#include "tests/ops/attention_cases.h"
#include "tests/support/gradcheck.h"

namespace polyhead {
namespace {

using testing::AttentionCase;
using testing::AttentionProblem;
using testing::values_of;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Masks and biases on shapes that are no multiple of a tile, a block or a vector. With n prime to
// the number of values of each option, every value still meets every other.
std::vector<AttentionCase> every_nth_case(std::size_t n) {
  const AttentionCase shapes[] = {
      {.batch = 2, .queries = 7, .keys = 7, .heads = 2, .groups = 2, .qk_dim = 4, .v_dim = 4},
      {.batch = 1, .queries = 83, .keys = 83, .heads = 6, .groups = 2, .qk_dim = 5, .v_dim = 19},
      {.batch = 1, .queries = 197, .keys = 197, .heads = 3, .groups = 1, .qk_dim = 48, .v_dim = 33},
      {.batch = 2, .queries = 65, .keys = 141, .heads = 2, .groups = 1, .qk_dim = 16, .v_dim = 16}};
  std::vector<AttentionCase> cases;
  std::size_t count = 0;
  for (AttentionCase c : shapes) {
    const std::int64_t T = c.queries;
    for (const bool causal : {true, false}) {
      for (const std::int64_t window :
           {std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, std::int64_t{40}, T - 1, T, T + 1}) {
        for (const int bias : {0, 1, 2, 3}) {
          for (const std::int64_t documents : {0, 30}) {
            for (const std::int64_t offset : {std::int64_t{0}, c.keys - c.queries + 3}) {
              c.causal = causal;
              c.window = window;
              c.alibi = (bias & 1) != 0;
              c.softcap = (bias & 2) != 0 ? 1.5 : 0;
              c.document_length = documents;
              c.query_offset = offset;
              if (count++ % n == 0) cases.push_back(c);
            }
          }
        }
      }
    }
  }
  return cases;
}

void expect_equal_with_infinities(const Tensor& got, const Tensor& want, double tolerance) {
  for (std::int64_t i = 0; i < got.numel(); ++i) {
    const double a = testing::at(got, i / got.cols(), i % got.cols());
    const double b = testing::at(want, i / got.cols(), i % got.cols());
    if (std::isinf(b)) {
      EXPECT_EQ(a, b);
    } else {
      EXPECT_NEAR(a, b, tolerance);
    }
  }
}

TEST(Attention, MatchesTheDenseDefinition) {
  for (const AttentionCase& c : every_nth_case(3)) {
    SCOPED_TRACE(c.name());
    AttentionProblem problem(c, DType::kF64);
    problem.forward();
    Tensor out, lse;
    testing::dense_attention(problem, out, lse);
    ASSERT_LE(testing::relative_error(values_of(problem.out), out), 1e-13);
    expect_equal_with_infinities(problem.lse, lse, 1e-13);
  }
}

// Compares with f64, and sees that gradients fill the heads and leave the gaps alone.
TEST(Attention, SingleMatchesDouble) {
  double worst_out = 0, worst_gradient = 0;
  for (const AttentionCase& c : every_nth_case(5)) {
    SCOPED_TRACE(c.name());
    AttentionProblem single(c, DType::kF32), exact(c, DType::kF64);
    for (AttentionProblem* problem : {&single, &exact}) {
      problem->forward();
      problem->backward();
      ASSERT_EQ(problem->gradients.count_numbers(), problem->inputs.count_numbers());
    }
    worst_out = std::max(worst_out,
                         testing::relative_error(values_of(single.out), values_of(exact.out), 1.0));
    expect_equal_with_infinities(single.lse, exact.lse, 1e-4);
    const auto compare = [&](const ops::HeadView& a, const ops::HeadView& b) {
      worst_gradient =
          std::max(worst_gradient, testing::relative_error(values_of(a), values_of(b), 1.0));
    };
    compare(single.gradients.q, exact.gradients.q);
    compare(single.gradients.k, exact.gradients.k);
    compare(single.gradients.v, exact.gradients.v);
  }
  std::printf("worst relative error: out %.2e, gradients %.2e\n", worst_out, worst_gradient);
  EXPECT_LE(worst_out, 1e-5);
  EXPECT_LE(worst_gradient, 1e-5);
}

void check_gradients(const AttentionCase& c) {
  SCOPED_TRACE(c.name());
  AttentionProblem problem(c, DType::kF64);
  problem.forward();
  problem.backward();
  testing::GradientCheck check;
  const auto add = [&](const std::string& name, ops::HeadView& input, ops::HeadView& gradient) {
    for (std::int64_t h = 0; h < input.heads; ++h) {
      const std::int64_t begin = h * input.head_stride, end = begin + input.head_dim;
      check.add(fmt::format("{} head {}", name, h), input.columns.column_slice(begin, end),
                gradient.columns.column_slice(begin, end));
    }
  };
  add("q", problem.inputs.q, problem.gradients.q);
  add("k", problem.inputs.k, problem.gradients.k);
  add("v", problem.inputs.v, problem.gradients.v);
  check.expect_close([&] {
    problem.forward();
    return testing::weighted_sum(problem.out.columns, problem.dout.columns);
  });
}

TEST(Attention, GradientsOfEveryOption) {
  const AttentionCase base{
      .batch = 2, .queries = 9, .keys = 9, .heads = 4, .groups = 2, .qk_dim = 3, .v_dim = 5};
  const auto with = [&](auto change) {
    AttentionCase c = base;
    change(c);
    check_gradients(c);
  };
  check_gradients(base);
  with([](AttentionCase& c) { c.batch = 2; });
  with([](AttentionCase& c) { c.causal = false; });
  with([](AttentionCase& c) { c.groups = 4; });
  with([](AttentionCase& c) { c.groups = 1; });
  with([](AttentionCase& c) { c.window = 3; });
  with([](AttentionCase& c) { c.alibi = true; });
  with([](AttentionCase& c) { c.softcap = 1.5; });
  with([](AttentionCase& c) { c.document_length = 4; });
  with([](AttentionCase& c) { c.query_offset = 4, c.keys = 9, c.window = 4; });
  with(
      [](AttentionCase& c) { c.softcap = 2, c.alibi = true, c.window = 5, c.document_length = 4; });
}

// Several tiles, blocks and runs.
TEST(Attention, GradientsAcrossTiles) {
  check_gradients({.batch = 1,
                   .queries = 101,
                   .keys = 101,
                   .heads = 2,
                   .groups = 1,
                   .qk_dim = 2,
                   .v_dim = 1,
                   .window = 70,
                   .softcap = 3,
                   .alibi = true});
}

// Queries far behind the last key: a window without a key, and the others' gradients unharmed.
TEST(Attention, QueriesWithoutKeysGiveZero) {
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    AttentionProblem problem({.queries = 70, .keys = 40, .window = 8, .softcap = 2, .alibi = true},
                             dtype);
    problem.forward();
    problem.backward();
    for (std::int64_t n = 0; n < 140; ++n) {
      if (n % 70 < 47) continue;
      EXPECT_EQ(testing::max_abs(problem.out.columns.row_slice(n, n + 1)), 0);
      EXPECT_EQ(testing::max_abs(values_of(problem.gradients.q).row_slice(n, n + 1)), 0);
      EXPECT_EQ(testing::at(problem.lse, n / 70 * 2, n % 70), -kInfinity);
    }
    EXPECT_EQ(problem.gradients.count_numbers(), problem.inputs.count_numbers());
  }
}

bool same_results(const AttentionProblem& a, const AttentionProblem& b) {
  const auto same = [](const ops::HeadView& x, const ops::HeadView& y) {
    return testing::bitwise_equal(values_of(x), values_of(y));
  };
  return same(a.out, b.out) && testing::bitwise_equal(a.lse, b.lse) &&
         same(a.gradients.q, b.gradients.q) && same(a.gradients.k, b.gradients.k) &&
         same(a.gradients.v, b.gradients.v);
}

TEST(Attention, BitsDoNotDependOnTheNumberOfThreads) {
#ifdef __SANITIZE_THREAD__
  GTEST_SKIP() << "libgomp is not instrumented: every parallel loop would look like a race";
#endif
  const int threads = omp_get_max_threads();
  for (const DType dtype : {DType::kF32, DType::kF64}) {
    for (const std::int64_t groups : {1, 6}) {
      const AttentionCase c{.batch = 2,
                            .queries = 333,
                            .keys = 333,
                            .heads = 6,
                            .groups = groups,
                            .qk_dim = 16,
                            .v_dim = 24,
                            .window = 200};
      omp_set_num_threads(1);
      AttentionProblem alone(c, dtype);
      alone.forward();
      alone.backward();
      for (const int count : {2, 3}) {
        omp_set_num_threads(count);
        AttentionProblem several(c, dtype);
        several.forward();
        several.backward();
        EXPECT_TRUE(same_results(alone, several)) << count << " threads, groups " << groups;
      }
    }
  }
  omp_set_num_threads(threads);
}

// Repeating k and v for every head of a group is what groups avoid: same outputs, bit for bit.
TEST(Attention, GroupsEqualRepeatedHeads) {
  const AttentionCase grouped_case{
      .batch = 2, .queries = 75, .keys = 75, .heads = 6, .groups = 2, .qk_dim = 8, .v_dim = 8};
  AttentionCase repeated_case = grouped_case;
  repeated_case.groups = 6;
  AttentionProblem grouped(grouped_case, DType::kF32), repeated(repeated_case, DType::kF32);
  const auto repeat = [](const ops::HeadView& from, ops::HeadView& to) {
    for (std::int64_t h = 0; h < to.heads; ++h) {
      const std::int64_t source = h / (to.heads / from.heads) * from.head_stride;
      const std::int64_t target = h * to.head_stride;
      to.columns.column_slice(target, target + to.head_dim)
          .copy_from(from.columns.column_slice(source, source + from.head_dim));
    }
  };
  repeat(grouped.inputs.k, repeated.inputs.k);
  repeat(grouped.inputs.v, repeated.inputs.v);
  for (AttentionProblem* problem : {&grouped, &repeated}) {
    problem->forward();
    problem->backward();
  }
  EXPECT_TRUE(testing::bitwise_equal(grouped.out.columns, repeated.out.columns));
  EXPECT_TRUE(testing::bitwise_equal(grouped.lse, repeated.lse));
  EXPECT_TRUE(
      testing::bitwise_equal(values_of(grouped.gradients.q), values_of(repeated.gradients.q)));
}

std::int64_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

TEST(Attention, LongSequencesNeedLinearMemory) {
  constexpr std::int64_t kLength = 8192;
  constexpr std::size_t kQuadratic = std::size_t{kLength} * kLength * sizeof(float);
  const AttentionCase plain{.batch = 1,
                            .queries = kLength,
                            .keys = kLength,
                            .heads = 2,
                            .groups = 1,
                            .qk_dim = 16,
                            .v_dim = 16};
  AttentionCase with_everything = plain;
  with_everything.qk_dim = 24;
  with_everything.v_dim = 9;
  with_everything.window = 5000;
  with_everything.softcap = 1.5;
  with_everything.alibi = true;
  with_everything.document_length = 7000;
  for (const AttentionCase& c : {plain, with_everything}) {
    SCOPED_TRACE(c.name());
    AttentionProblem problem(c, DType::kF32);
    const std::size_t inputs = memory_statistics(Device::kCpu).in_use;
    reset_peak_memory(Device::kCpu);
    [[maybe_unused]] const std::int64_t resident = peak_resident_bytes();
    problem.forward();
    problem.backward();
    EXPECT_LT(memory_statistics(Device::kCpu).peak - inputs, kQuadratic / 8);
#ifndef __SANITIZE_THREAD__  // whose own memory grows with ours
    EXPECT_LT(peak_resident_bytes() - resident, static_cast<std::int64_t>(kQuadratic / 8));
#endif
  }
}

TEST(Attention, AlibiSlopesFollowThePaper) {
  const Tensor eight = ops::alibi_slopes(8, DType::kF64);
  const Tensor six = ops::alibi_slopes(6, DType::kF64);
  for (std::int64_t h = 0; h < 8; ++h) {
    EXPECT_EQ(testing::at(eight, 0, h), std::exp2(-static_cast<double>(h + 1)));
  }
  const double want[] = {std::exp2(-2), std::exp2(-4), std::exp2(-6),
                         std::exp2(-8), std::exp2(-1), std::exp2(-3)};
  for (std::int64_t h = 0; h < 6; ++h) EXPECT_EQ(testing::at(six, 0, h), want[h]);
}

TEST(Attention, WrongShapesAreCaught) {
  AttentionProblem problem({}, DType::kF32);
  problem.lse = Tensor::empty({2, 2, 6}, DType::kF32);
  EXPECT_THROW(problem.forward(), std::logic_error);
  AttentionProblem uneven({.heads = 3, .groups = 2}, DType::kF32);
  EXPECT_THROW(uneven.forward(), std::logic_error);
  AttentionProblem slopes({}, DType::kF32);
  slopes.spec.alibi_slopes = ops::alibi_slopes(3, DType::kF32);
  EXPECT_THROW(slopes.forward(), std::logic_error);
}

}  // namespace
}  // namespace polyhead
