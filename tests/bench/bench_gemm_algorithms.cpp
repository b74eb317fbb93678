// How fast cublasLt's algorithms are for the three products of a linear layer in bf16, on a card
// that is cool and on one that the product itself has kept busy, as a training step does: there the
// limit may be power, and another algorithm the fastest.
//
//   bench_gemm_algorithms TOKENS IN OUT [--seconds 0.2]
//
// Takes seconds * 2 * algorithms for each product. The last columns number the algorithm's
// configuration as cublasLt's headers do.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

#include "framework/cuda/context.h"
#include "framework/cuda/gemm_plan.h"
#include "framework/device_system.h"
#include "framework/error.h"
#include "scripts/markdown_table.h"
#include "tests/bench/gpu_bench.h"

namespace polyhead::bench {
namespace {

using cuda::GemmPlan;
using cuda::GemmProblem;
using Clock = std::chrono::steady_clock;

struct Linear {
  std::int64_t tokens, in, out;
};

GemmProblem forward(const Linear& l) {
  return {.input = DType::kBf16,
          .output = DType::kBf16,
          .transpose_b = true,
          .rows = l.tokens,
          .columns = l.out,
          .depth = l.in,
          .stride_a = l.in,
          .stride_b = l.in,
          .stride_c = l.out};
}
GemmProblem dx(const Linear& l) {
  return {.input = DType::kBf16,
          .output = DType::kBf16,
          .rows = l.tokens,
          .columns = l.in,
          .depth = l.out,
          .stride_a = l.out,
          .stride_b = l.in,
          .stride_c = l.in};
}
GemmProblem dweight(const Linear& l, bool accumulate) {
  return {.input = DType::kBf16,
          .output = DType::kF32,
          .transpose_a = true,
          .accumulate = accumulate,
          .rows = l.out,
          .columns = l.in,
          .depth = l.tokens,
          .stride_a = l.out,
          .stride_b = l.in,
          .stride_c = l.in};
}

class Product {
 public:
  explicit Product(GemmProblem problem)
      : plan_(aligned(problem)),
        a_(random({problem.rows, problem.depth})),
        b_(random({problem.depth, problem.columns})),
        c_(random({problem.rows, problem.columns}, problem.output)),
        algorithms_(plan_.candidates()) {}

  // Seconds a product, of `count` of them one behind the other.
  double time(std::size_t algorithm, int count) {
    plan_.set_algorithm(algorithms_[algorithm]);
    const cuda::Context& context = cuda::Context::instance();
    context.synchronize();
    const auto begin = Clock::now();
    for (int i = 0; i < count; ++i) plan_.run(a_.raw(), b_.raw(), c_.raw(), c_.raw());
    context.synchronize();
    return std::chrono::duration<double>(Clock::now() - begin).count() / count;
  }

  std::size_t algorithms() const { return algorithms_.size(); }
  const GemmProblem& problem() const { return plan_.problem(); }

  int setting(std::size_t algorithm, cublasLtMatmulAlgoConfigAttributes_t attribute) const {
    std::uint64_t value = 0;  // of two or four bytes, in little-endian order
    std::size_t written = 0;
    const bool known =
        cublasLtMatmulAlgoConfigGetAttribute(&algorithms_[algorithm], attribute, &value,
                                             sizeof value, &written) == CUBLAS_STATUS_SUCCESS;
    return known ? static_cast<int>(value) : -1;
  }

 private:
  static GemmProblem aligned(GemmProblem problem) {
    problem.alignment_a = problem.alignment_b = problem.alignment_c = 16;
    return problem;
  }

  GemmPlan plan_;
  Tensor a_, b_, c_;
  std::vector<cublasLtMatmulAlgo_t> algorithms_;
};

constexpr int kCoolRounds = 9;
constexpr std::chrono::milliseconds kPause(20);

void time_product(const GemmProblem& problem, double seconds) {
  Product product(problem);
  const std::size_t count = product.algorithms();
  std::vector<double> cool(count), busy(count);
  for (std::size_t i = 0; i < count; ++i) {
    product.time(i, 1);  // loads its code
    std::vector<double> rounds;
    for (int round = 0; round < kCoolRounds; ++round) {
      std::this_thread::sleep_for(kPause);
      rounds.push_back(product.time(i, 3));
    }
    std::ranges::nth_element(rounds, rounds.begin() + kCoolRounds / 2);
    cool[i] = rounds[kCoolRounds / 2];
  }
  // There and back, so that none comes always behind the same one.
  const auto repeats = [&](std::size_t i) {
    return std::max(1, static_cast<int>(seconds / cool[i]));
  };
  for (std::size_t i = 0; i < count; ++i) busy[i] = product.time(i, repeats(i));
  for (std::size_t i = count; i-- > 0;) busy[i] = (busy[i] + product.time(i, repeats(i))) / 2;

  const double teraflop = 2e-12 * static_cast<double>(problem.rows) *
                          static_cast<double>(problem.columns) * static_cast<double>(problem.depth);
  std::vector<TableRow> rows = {{"algorithm", "cool, ms", "busy, ms", "busy, TFLOP/s", "tile",
                                 "stages", "cluster", "swizzle", "parts of the sum"}};
  for (std::size_t i = 0; i < count; ++i) {
    const auto number = [&](cublasLtMatmulAlgoConfigAttributes_t attribute) {
      return fmt::format("{}", product.setting(i, attribute));
    };
    rows.push_back({fmt::format("{}", i), fmt::format("{:.4f}", cool[i] * 1e3),
                    fmt::format("{:.4f}", busy[i] * 1e3), fmt::format("{:.0f}", teraflop / busy[i]),
                    number(CUBLASLT_ALGO_CONFIG_TILE_ID), number(CUBLASLT_ALGO_CONFIG_STAGES_ID),
                    number(CUBLASLT_ALGO_CONFIG_CLUSTER_SHAPE_ID),
                    number(CUBLASLT_ALGO_CONFIG_CTA_SWIZZLING),
                    number(CUBLASLT_ALGO_CONFIG_SPLITK_NUM)});
  }
  fmt::print("{}\n{}\n", product.problem().to_string(), markdown_table(rows, 1));
  std::fflush(stdout);
}

}  // namespace
}  // namespace polyhead::bench

int main(int argc, char** argv) {
  using namespace polyhead;
  CLI::App app("Times cublasLt's algorithms for a linear layer on a cool and on a busy card");
  bench::Linear linear{};
  double seconds = 0.2;
  app.add_option("TOKENS", linear.tokens)->required()->check(CLI::PositiveNumber);
  app.add_option("IN", linear.in)->required()->check(CLI::PositiveNumber);
  app.add_option("OUT", linear.out)->required()->check(CLI::PositiveNumber);
  app.add_option("--seconds", seconds, "How long a card is kept busy with one algorithm")
      ->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  try {
    const std::string missing = missing_device(Device::kCuda);
    require(missing.empty(), "{}", missing);
    bench::time_product(bench::forward(linear), seconds);
    bench::time_product(bench::dx(linear), seconds);
    bench::time_product(bench::dweight(linear, false), seconds);
    bench::time_product(bench::dweight(linear, true), seconds);
  } catch (const std::exception& error) {
    print_error(error.what());
    return 1;
  }
  return 0;
}
