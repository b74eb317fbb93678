// Times whole training steps on one CUDA device: gradients of all micro-batches, clipping, AdamW.
//
//   bench_gpu_step tests/bench/steps/*.yaml [--steps 20] [--json FILE] [--kernels] [--by-host]
//
// Tokens are random, and steps are played from a recording (training.cuda_graph), or enqueued one
// by one with --by-host. Wall time from step to step, the host waiting at the end of each; the
// median of the steps behind five that warm up (algorithms are chosen then). MFU is over the 989
// TFLOP/s of dense bf16 on an H100 or H200. --kernels tells the kernels that a step consists of;
// the steps are slower then.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <optional>
#include <vector>

#include "framework/device_system.h"
#include "framework/error.h"
#include "framework/ops/elementwise.h"
#include "framework/random.h"
#include "framework/recorded_work.h"
#include "layers/flops.h"
#include "layers/model.h"
#include "optim/gradients.h"
#include "optim/optimizer.h"
#include "scripts/compute.h"
#include "scripts/markdown_table.h"
#include "scripts/train_config.h"
#include "tests/bench/kernel_times.h"

namespace polyhead {
namespace {

constexpr double kPeakTeraflops = 989;
constexpr int kWarmUpSteps = 5;

Tensor random_tokens(std::int64_t count, std::int64_t vocabulary, std::uint64_t stream,
                     Device device) {
  Tensor tokens = Tensor::empty({count}, DType::kI32);
  for (std::int64_t i = 0; i < count; ++i) {
    tokens.data<std::int32_t>()[i] = static_cast<std::int32_t>(
        uniform(7, stream, static_cast<std::uint64_t>(i)) * static_cast<double>(vocabulary));
  }
  return tokens.to(device);
}

class Step {
 public:
  explicit Step(const TrainConfig& config)
      : compute_(
            choose_compute(config.training.device, config.training.precision, "training.device")),
        sequences_(config.training.micro_batch_size),
        micro_batches_(config.training.global_batch_size / sequences_),
        solo_(make_solo_communicator()),
        parallel_(*solo_, false),
        model_(config.model, config.data.sequence_length, parallel_, compute_.dtype,
               config.training.recompute, compute_.device),
        store_(model_.parameters(), compute_.dtype, compute_.device),
        optimizer_(store_, {.weight_decay = 0.1}, moments_dtype(config.optimizer, compute_.dtype),
                   /*seed=*/1),
        loss_(Tensor::zeros({1}, DType::kF64, compute_.device)),
        records_(config.training.cuda_graph) {
    store_.initialize(1);
    const std::int64_t tokens = sequences_ * config.data.sequence_length;
    for (std::int64_t i = 0; i < micro_batches_; ++i) {
      const auto stream = static_cast<std::uint64_t>(2 * i);
      tokens_.push_back(random_tokens(tokens, *config.model.vocab_size, stream, compute_.device));
      targets_.push_back(
          random_tokens(tokens, *config.model.vocab_size, stream + 1, compute_.device));
    }
  }

  // Returns the loss.
  double run() {
    optimizer_.begin_update(1e-4);
    if (records_ && computed_) {
      if (!recording_) recording_ = record_work(compute_.device, [&] { compute(); });
      recording_->play();
    } else {
      compute();
      computed_ = true;
    }
    return loss_.to(Device::kCpu).data<double>()[0];
  }

  Device device() const { return compute_.device; }

 private:
  void compute() {
    const double weight = 1.0 / static_cast<double>(micro_batches_ * tokens_.front().numel());
    store_.zero_grads();
    loss_.set_zero();
    for (std::size_t i = 0; i < tokens_.size(); ++i) {
      Model::Saved saved;
      Tensor dh;
      const Tensor h = model_.forward(tokens_[i], sequences_, saved);
      model_.output_loss().loss_and_gradient(h, targets_[i], weight, loss_, dh);
      model_.backward(dh, saved);
    }
    const Tensor squares = squared_gradient_norm(store_, *solo_);
    Tensor scale = Tensor::empty_like(squares);
    ops::clip_scale(squares, 1.0, scale);
    optimizer_.finish_update(scale);
  }

  Compute compute_;
  std::int64_t sequences_, micro_batches_;
  std::unique_ptr<Communicator> solo_;
  TensorParallel parallel_;
  Model model_;
  ParameterStore store_;
  AdamW optimizer_;
  std::vector<Tensor> tokens_, targets_;
  Tensor loss_;
  bool records_, computed_ = false;
  std::unique_ptr<RecordedWork> recording_;
};

// A kernel's full name can take thousands of characters.
std::string shortened(std::string name) {
  constexpr std::size_t kLongest = 100;
  for (const std::string_view part :
       {"void ", "polyhead::", "ops::kernel::", "(anonymous namespace)::"}) {
    for (std::size_t at; (at = name.find(part)) != std::string::npos;) name.erase(at, part.size());
  }
  return name.substr(0, kLongest);
}

std::string kernel_table(const std::vector<bench::KernelTime>& kernels, int steps) {
  std::vector<TableRow> rows = {{"kernel", "calls a step", "ms a step"}};
  double total = 0;
  for (const bench::KernelTime& kernel : kernels) {
    const double milliseconds = kernel.milliseconds / steps;
    rows.push_back({shortened(kernel.name), fmt::format("{}", kernel.calls / steps),
                    fmt::format("{:.3f}", milliseconds)});
    total += milliseconds;
  }
  rows.push_back({"all", "", fmt::format("{:.3f}", total)});
  return markdown_table(rows, 1);
}

// `kernels` may be null.
std::string time_steps(const std::string& path, int steps, bool by_host,
                       bench::KernelTimes* kernels) {
  using Clock = std::chrono::steady_clock;
  const TrainConfig config = load_train_config(
      path, {"training.device=cuda", fmt::format("training.cuda_graph={}", !by_host)}, 1);
  Step step(config);
  std::vector<double> seconds;
  double loss = 0;
  for (int i = 0; i < kWarmUpSteps + steps; ++i) {
    if (kernels != nullptr && i == kWarmUpSteps) kernels->restart();
    const auto begin = Clock::now();
    loss = step.run();
    if (i >= kWarmUpSteps) {
      seconds.push_back(std::chrono::duration<double>(Clock::now() - begin).count());
    }
  }
  if (kernels != nullptr) fmt::print("{}", kernel_table(kernels->finish(), steps));
  std::ranges::sort(seconds);
  const double median = seconds[seconds.size() / 2];
  const auto tokens =
      static_cast<double>(config.training.global_batch_size * config.data.sequence_length);
  const double teraflops =
      tokens * 1e-12 / median * training_flops_per_token(config.model, config.data.sequence_length);
  return fmt::format(
      R"({{"case": "{}", "ms": {:.2f}, "least_ms": {:.2f}, "tokens_per_second": {:.0f}, )"
      R"("teraflops": {:.1f}, "mfu": {:.4f}, "peak_gib": {:.2f}, "loss": {:.4f}}})",
      std::filesystem::path(path).stem().string(), median * 1e3, seconds.front() * 1e3,
      tokens / median, teraflops, teraflops / kPeakTeraflops,
      static_cast<double>(memory_statistics(step.device()).peak) / (1 << 30), loss);
}

}  // namespace
}  // namespace polyhead

int main(int argc, char** argv) {
  using namespace polyhead;
  CLI::App app("Times training steps on CUDA");
  std::vector<std::string> configs;
  int steps = 20;
  std::string json;
  bool with_kernels = false, by_host = false;
  app.add_option("configs", configs)->required()->check(CLI::ExistingFile);
  app.add_option("--steps", steps)->check(CLI::PositiveNumber);
  app.add_option("--json", json);
  app.add_flag("--kernels", with_kernels, "Print the kernels of a step, by CUPTI");
  app.add_flag("--by-host", by_host, "Enqueue every step instead of playing a recording");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::string missing = missing_device(Device::kCuda);
    require(missing.empty(), "{}", missing);
    std::optional<bench::KernelTimes> kernels;
    if (with_kernels) kernels.emplace();
    for (const std::string& config : configs) {
      const std::string line = time_steps(config, steps, by_host, kernels ? &*kernels : nullptr);
      fmt::print("{}\n", line);
      std::fflush(stdout);
      if (!json.empty()) std::ofstream(json, std::ios::app) << line << '\n';
      release_unused_memory(Device::kCuda);
      reset_peak_memory(Device::kCuda);
    }
  } catch (const std::exception& error) {
    print_error(error.what());
    return 1;
  }
  return 0;
}
