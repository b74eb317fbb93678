// Times single ops on the shapes of a small model (hidden 128) and of a 124M-parameter one (hidden
// 768). Matrix products report GFLOP/s and their share of a 1024^3 sgemm's rate; all others report
// GB/s of the memory they must read and write, and their share of the rate at which a large array
// is scaled in place. Both yardsticks are measured in the same process; operands that stay in the
// caches can beat the second.
#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "framework/ops/activation.h"
#include "framework/ops/adamw.h"
#include "framework/ops/cross_entropy.h"
#include "framework/ops/elementwise.h"
#include "framework/ops/embedding.h"
#include "framework/ops/matmul.h"
#include "framework/ops/normalization.h"
#include "tests/support/compare.h"

namespace polyhead::ops {
namespace {

using benchmark::Counter;
using benchmark::State;

Tensor random(const Shape& shape) {
  return testing::random_tensor(shape, DType::kF32, "bench");
}

Tensor empty(const Shape& shape) {
  return Tensor::empty(shape, DType::kF32);
}

Tensor random_ids(std::int64_t count, std::int64_t vocabulary) {
  Tensor ids = Tensor::empty({count}, DType::kI32);
  for (std::int64_t i = 0; i < count; ++i) {
    const double place = uniform(1, stream_id("ids"), static_cast<std::uint64_t>(i));
    ids.data<std::int32_t>()[i] =
        static_cast<std::int32_t>(place * static_cast<double>(vocabulary));
  }
  return ids;
}

double median_seconds(const std::function<void()>& work) {
  std::vector<double> seconds;
  for (int round = 0; round < 11; ++round) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    seconds.push_back(
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  std::nth_element(seconds.begin(), seconds.begin() + 5, seconds.end());
  return seconds[5];
}

// Operations per second of a 1024^3 sgemm.
double sgemm_rate() {
  static const double rate = [] {
    const Tensor a = random({1024, 1024}), b = random({1024, 1024});
    Tensor c = empty({1024, 1024});
    return 2.0 * (1 << 30) / median_seconds([&] { matmul_weight(a, b, c); });
  }();
  return rate;
}

// Bytes per second read and written while 128 MiB are scaled in place.
double memory_rate() {
  static const double rate = [] {
    Tensor x = empty({1 << 25});
    fill(1, x);
    return 8.0 * (1 << 25) / median_seconds([&] { scale(1, x); });
  }();
  return rate;
}

void time_operations(State& state, double operations, const std::function<void()>& work) {
  const double peak = sgemm_rate();
  work();
  for (auto _ : state) work();
  state.counters["GFLOP/s"] = Counter(operations * 1e-9, Counter::kIsIterationInvariantRate);
  state.counters["of_sgemm"] = Counter(operations / peak, Counter::kIsIterationInvariantRate);
}

void time_bytes(State& state, std::int64_t bytes, const std::function<void()>& work) {
  const double peak = memory_rate();
  work();
  for (auto _ : state) work();
  const auto moved = static_cast<double>(bytes);
  state.counters["GB/s"] = Counter(moved * 1e-9, Counter::kIsIterationInvariantRate);
  state.counters["of_memory"] = Counter(moved / peak, Counter::kIsIterationInvariantRate);
}

// Arguments: tokens, in, out.
void linear_forward(State& state) {
  const std::int64_t tokens = state.range(0), in = state.range(1), out = state.range(2);
  const Tensor x = random({tokens, in}), weight = random({out, in});
  Tensor y = empty({tokens, out});
  time_operations(state, 2.0 * static_cast<double>(tokens * in * out),
                  [&] { matmul_weight(x, weight, y); });
}

void linear_backward(State& state) {
  const std::int64_t tokens = state.range(0), in = state.range(1), out = state.range(2);
  const Tensor x = random({tokens, in}), weight = random({out, in}), dy = random({tokens, out});
  Tensor dx = empty({tokens, in}), dweight = random({out, in});
  time_operations(state, 4.0 * static_cast<double>(tokens * in * out), [&] {
    matmul(dy, Transpose::kNo, weight, Transpose::kNo, Accumulate::kNo, dx);
    matmul(dy, Transpose::kYes, x, Transpose::kNo, Accumulate::kYes, dweight);
  });
}

// One token: bound by reading the weight.
void linear_one_token(State& state) {
  const std::int64_t in = state.range(0), out = state.range(1);
  const Tensor x = random({1, in}), weight = random({out, in});
  Tensor y = empty({1, out});
  time_bytes(state, 4 * in * out, [&] { matmul_weight(x, weight, y); });
}

// Arguments: tokens, hidden.
void rms_norm_forward(State& state) {
  const std::int64_t tokens = state.range(0), hidden = state.range(1);
  const Tensor x = random({tokens, hidden}), weight = random({hidden});
  Tensor y = empty({tokens, hidden}), rstd = empty({tokens});
  time_bytes(state, 8 * x.numel(),
             [&] { ops::rms_norm_forward(x, weight, NormWeight::kPlain, 1e-5, {}, y, rstd); });
}

void rms_norm_backward(State& state) {
  const std::int64_t tokens = state.range(0), hidden = state.range(1);
  const Tensor x = random({tokens, hidden}), weight = random({hidden}), dy = random(x.shape());
  Tensor dx = empty(x.shape()), dweight = random({hidden}), rstd = empty({tokens});
  ops::rms_norm_forward(x, weight, NormWeight::kPlain, 1e-5, {}, dx, rstd);
  time_bytes(state, 12 * x.numel(), [&] {
    ops::rms_norm_backward(dy, x, weight, NormWeight::kPlain, rstd, {}, dx, dweight);
  });
}

void layer_norm_forward(State& state) {
  const std::int64_t tokens = state.range(0), hidden = state.range(1);
  const Tensor x = random({tokens, hidden}), weight = random({hidden});
  Tensor y = empty({tokens, hidden}), statistics = empty({tokens, 2});
  time_bytes(state, 8 * x.numel(),
             [&] { ops::layer_norm_forward(x, weight, weight, 1e-5, {}, y, statistics); });
}

void layer_norm_backward(State& state) {
  const std::int64_t tokens = state.range(0), hidden = state.range(1);
  const Tensor x = random({tokens, hidden}), weight = random({hidden}), dy = random(x.shape());
  Tensor dx = empty(x.shape()), dweight = random({hidden}), dbias = random({hidden});
  Tensor statistics = empty({tokens, 2});
  ops::layer_norm_forward(x, weight, weight, 1e-5, {}, dx, statistics);
  time_bytes(state, 12 * x.numel(),
             [&] { ops::layer_norm_backward(dy, x, weight, statistics, {}, dx, dweight, dbias); });
}

// Arguments: tokens, ffn, activation.
void activation_forward(State& state) {
  const std::int64_t tokens = state.range(0), width = state.range(1);
  const auto activation = static_cast<Activation>(state.range(2));
  const Tensor x = random({tokens, is_gated(activation) ? 2 * width : width});
  Tensor y = empty({tokens, width});
  time_bytes(state, 4 * (x.numel() + y.numel()),
             [&] { ops::activation_forward(x, activation, y); });
}

void activation_backward(State& state) {
  const std::int64_t tokens = state.range(0), width = state.range(1);
  const auto activation = static_cast<Activation>(state.range(2));
  const Tensor x = random({tokens, is_gated(activation) ? 2 * width : width});
  const Tensor dy = random({tokens, width});
  Tensor dx = empty(x.shape());
  time_bytes(state, 4 * (2 * x.numel() + dy.numel()),
             [&] { ops::activation_backward(dy, x, activation, dx); });
}

// Arguments: tokens, vocabulary.
void cross_entropy_statistics(State& state) {
  const std::int64_t tokens = state.range(0), vocabulary = state.range(1);
  const Tensor logits = random({tokens, vocabulary}), targets = random_ids(tokens, vocabulary);
  Tensor statistics = empty({tokens, 3});
  time_bytes(state, 4 * logits.numel(),
             [&] { ops::cross_entropy_statistics(logits, targets, 0, vocabulary, statistics); });
}

void cross_entropy_backward(State& state) {
  const std::int64_t tokens = state.range(0), vocabulary = state.range(1);
  Tensor logits = random({tokens, vocabulary}), lse = empty({tokens});
  const Tensor targets = random_ids(tokens, vocabulary);
  fill(10, lse);
  time_bytes(state, 8 * logits.numel(),
             [&] { ops::cross_entropy_backward(targets, lse, 0, vocabulary, 1.0, logits); });
}

// Arguments: tokens, vocabulary, hidden.
void embedding_backward(State& state) {
  const std::int64_t tokens = state.range(0), vocabulary = state.range(1), hidden = state.range(2);
  const Tensor ids = random_ids(tokens, vocabulary), dy = random({tokens, hidden});
  Tensor dtable = Tensor::zeros({vocabulary, hidden}, DType::kF32);
  time_bytes(state, 12 * dy.numel(),
             [&] { ops::embedding_backward(dy, ids, 0, vocabulary, 1.0, dtable); });
}

// Argument: parameters.
void adamw(State& state) {
  const std::int64_t size = state.range(0);
  const Tensor grad = random({size});
  Tensor value = random({size}), m = Tensor::zeros({size}, DType::kF32), v = m.clone(), rounded;
  const AdamwOptions options{.weight_decay = 0.1};
  const Tensor scalars = adamw_scalars(options, 1e-4, 1);
  time_bytes(state, 28 * size, [&] { ops::adamw(grad, options, scalars, value, m, v, rounded); });
}

void add_sum_squares(State& state) {
  const Tensor x = random({state.range(0)});
  Tensor total = Tensor::zeros({1}, DType::kF64);
  time_bytes(state, 4 * x.numel(), [&] { ops::add_sum_squares(x, total); });
}

void linear_shapes(benchmark::internal::Benchmark* timed) {
  timed->ArgNames({"tokens", "in", "out"});
  for (const auto& [in, out] : {std::pair{128, 128}, {128, 704}, {352, 128}, {128, 4096}}) {
    timed->Args({2048, in, out});
  }
  for (const auto& [in, out] : {std::pair{768, 768}, {768, 4096}, {2048, 768}, {768, 50304}}) {
    timed->Args({1024, in, out});
  }
}

void activation_shapes(benchmark::internal::Benchmark* timed) {
  timed->ArgNames({"tokens", "ffn", "activation"});
  for (const Activation activation :
       {Activation::kSwiglu, Activation::kGeglu, Activation::kGeluTanh, Activation::kGelu}) {
    timed->Args({2048, 352, static_cast<int>(activation)});
    timed->Args({1024, 2048, static_cast<int>(activation)});
  }
}

void norm_shapes(benchmark::internal::Benchmark* timed) {
  timed->ArgNames({"tokens", "hidden"})->Args({2048, 128})->Args({1024, 768});
}

void logit_shapes(benchmark::internal::Benchmark* timed) {
  timed->ArgNames({"tokens", "vocabulary"})->Args({2048, 4096})->Args({256, 50304});
}

BENCHMARK(linear_forward)->Apply(linear_shapes)->UseRealTime();
BENCHMARK(linear_backward)->Apply(linear_shapes)->UseRealTime();
BENCHMARK(linear_one_token)->ArgNames({"in", "out"})->Args({768, 50304})->UseRealTime();
BENCHMARK(rms_norm_forward)->Apply(norm_shapes)->UseRealTime();
BENCHMARK(rms_norm_backward)->Apply(norm_shapes)->UseRealTime();
BENCHMARK(layer_norm_forward)->Apply(norm_shapes)->UseRealTime();
BENCHMARK(layer_norm_backward)->Apply(norm_shapes)->UseRealTime();
BENCHMARK(activation_forward)->Apply(activation_shapes)->UseRealTime();
BENCHMARK(activation_backward)->Apply(activation_shapes)->UseRealTime();
BENCHMARK(cross_entropy_statistics)->Apply(logit_shapes)->UseRealTime();
BENCHMARK(cross_entropy_backward)->Apply(logit_shapes)->UseRealTime();
BENCHMARK(embedding_backward)
    ->ArgNames({"tokens", "vocabulary", "hidden"})
    ->Args({2048, 4096, 128})
    ->Args({2048, 150000, 768})
    ->UseRealTime();
BENCHMARK(adamw)->ArgName("parameters")->Arg(1 << 20)->Arg(1 << 25)->UseRealTime();
BENCHMARK(add_sum_squares)->ArgName("parameters")->Arg(1 << 20)->Arg(1 << 25)->UseRealTime();

}  // namespace
}  // namespace polyhead::ops

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  benchmark::AddCustomContext("blas", polyhead::ops::blas_description());
  benchmark::RunSpecifiedBenchmarks();
}
