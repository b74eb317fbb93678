// Times training steps (forward, backward, clipping, AdamW) of one model shape on random tokens and
// prints one JSON object: tokens/s, GFLOP/s, the rate of a 1024^3 sgemm in the same process, and
// the shares of matrix products and attention in the step. bench_step.py sets it beside PyTorch.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <functional>
#include <vector>

#include "framework/ops/elementwise.h"
#include "framework/ops/matmul.h"
#include "framework/profiler.h"
#include "layers/flops.h"
#include "layers/model.h"
#include "optim/optimizer.h"
#include "tests/support/model_run.h"

namespace polyhead {
namespace {

struct Options {
  std::int64_t hidden = 128, layers = 4, heads = 8, ffn = 352, vocabulary = 4096;
  std::int64_t batch = 8, length = 256, steps = 10;
};

double seconds_of(const std::function<void()>& work) {
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

double median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2),
                   values.end());
  return values[values.size() / 2];
}

double sgemm_gflops() {
  constexpr std::int64_t kSize = 1024;
  const Tensor a = testing::random_tensor({kSize, kSize}, DType::kF32, "a");
  const Tensor b = testing::random_tensor({kSize, kSize}, DType::kF32, "b");
  Tensor c = Tensor::empty({kSize, kSize}, DType::kF32);
  std::vector<double> seconds;
  for (int round = 0; round < 21; ++round) {
    seconds.push_back(seconds_of([&] { ops::matmul_weight(a, b, c); }));
  }
  return 2.0 * kSize * kSize * kSize / median(seconds) * 1e-9;
}

class Step {
 public:
  Step(const ModelConfig& config, const Options& options)
      : options_(options),
        solo_(make_solo_communicator()),
        parallel_(*solo_, false),
        model_(config, options.length, parallel_, DType::kF32),
        store_(model_.parameters(), DType::kF32, Device::kCpu),
        optimizer_(store_, {.weight_decay = 0.1}),
        tokens_(testing::token_ids(options.batch * options.length, options.vocabulary, "tokens")),
        targets_(
            testing::token_ids(options.batch * options.length, options.vocabulary, "targets")) {
    store_.initialize(1);
  }

  void run() {
    store_.zero_grads();
    Model::Saved saved;
    const Tensor h = model_.forward(tokens_, options_.batch, saved);
    Tensor loss = Tensor::zeros({1}, DType::kF64), dh;
    model_.output_loss().loss_and_gradient(h, targets_, 1.0 / static_cast<double>(tokens_.numel()),
                                           loss, dh);
    model_.backward(dh, saved);
    Tensor squares = Tensor::zeros({1}, DType::kF64), scale = Tensor::empty({1}, DType::kF64);
    ops::add_sum_squares(store_.grads(), squares);
    ops::clip_scale(squares, 1.0, scale);
    optimizer_.step(1e-4, scale);
  }

 private:
  Options options_;
  std::unique_ptr<Communicator> solo_;
  TensorParallel parallel_;
  Model model_;
  ParameterStore store_;
  AdamW optimizer_;
  Tensor tokens_, targets_;
};

void benchmark(const Options& options) {
  ModelConfig config;
  config.num_layers = options.layers;
  config.hidden_size = options.hidden;
  config.ffn_hidden_size = options.ffn;
  config.num_attention_heads = options.heads;
  config.vocab_size = options.vocabulary;
  Step step(config, options);
  for (int warm_up = 0; warm_up < 2; ++warm_up) step.run();

  const double sgemm = sgemm_gflops();
  Profiler::enable(true);
  std::vector<double> seconds;
  double total = 0;
  for (std::int64_t i = 0; i < options.steps; ++i) {
    seconds.push_back(seconds_of([&] { step.run(); }));
    total += seconds.back();
  }
  const double tokens_per_second =
      static_cast<double>(options.batch * options.length) / median(seconds);
  fmt::print(
      "{{\"tokens_per_second\": {:.1f}, \"gflops\": {:.2f}, \"sgemm_gflops\": {:.1f}, "
      "\"matmul_share\": {:.4f}, \"attention_share\": {:.4f}}}\n",
      tokens_per_second,
      tokens_per_second * training_flops_per_token(config, options.length) * 1e-9, sgemm,
      Profiler::seconds(Work::kMatmul) / total, Profiler::seconds(Work::kAttention) / total);
}

}  // namespace
}  // namespace polyhead

int main(int argc, char** argv) {
  polyhead::Options options;
  CLI::App app("Training step of one model shape on the CPU");
  app.add_option("--hidden", options.hidden);
  app.add_option("--layers", options.layers);
  app.add_option("--heads", options.heads);
  app.add_option("--ffn", options.ffn);
  app.add_option("--vocabulary", options.vocabulary);
  app.add_option("--batch", options.batch);
  app.add_option("--length", options.length);
  app.add_option("--steps", options.steps);
  CLI11_PARSE(app, argc, argv);
  polyhead::benchmark(options);
}
