#include "tests/bench/gpu_bench.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <nlohmann/json.hpp>
#include <utility>

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/error.h"
#include "framework/ops/matmul.h"
#include "tests/support/cuda.h"

namespace polyhead::bench {
namespace {

constexpr std::size_t kRotatedBytes = std::size_t{512} << 20;
constexpr std::size_t kMostPrepared = 64;
constexpr std::size_t kWarmUps = 5;
constexpr double kTimedSeconds = 0.25;
constexpr std::size_t kLeastIterations = 20, kMostIterations = 200;

struct EventDeleter {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, EventDeleter>;

Event recorded_event() {
  cudaEvent_t event = nullptr;
  POLYHEAD_CUDA(cudaEventCreate(&event));
  Event owned(event);
  POLYHEAD_CUDA(cudaEventRecord(event, cuda::Context::instance().stream()));
  return owned;
}

// Of each iteration, in order; the works take turns.
std::vector<double> seconds_of(const std::vector<Work>& works, std::size_t iterations) {
  // Keeps the device busy while the host runs ahead, so that no iteration waits for a launch.
  Tensor head_start = empty({1 << 28}, DType::kF32);
  for (int i = 0; i < 4; ++i) head_start.set_zero();

  std::vector<std::pair<Event, Event>> spans;
  for (std::size_t i = 0; i < iterations; ++i) {
    Event begin = recorded_event();
    works[i % works.size()]();
    spans.emplace_back(std::move(begin), recorded_event());
  }
  cuda::Context::instance().synchronize();
  std::vector<double> seconds;
  for (const auto& [begin, end] : spans) {
    float milliseconds = 0;
    POLYHEAD_CUDA(cudaEventElapsedTime(&milliseconds, begin.get(), end.get()));
    seconds.push_back(1e-3 * static_cast<double>(milliseconds));
  }
  return seconds;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

std::size_t bytes_in_use() {
  return memory_statistics(Device::kCuda).in_use;
}

}  // namespace

GpuBench::GpuBench(const std::string& json_path)
    : selected_([](const std::string&) { return true; }) {
  if (!json_path.empty()) {
    json_.open(json_path, std::ios::app);
    require(json_.is_open(), "{} cannot be written", json_path);
  }
}

void GpuBench::select(std::function<bool(const std::string&)> selected) {
  selected_ = std::move(selected);
}

void GpuBench::measure_yardsticks() {
  constexpr std::int64_t kCopied = std::int64_t{1} << 29, kSize = 8192;  // elements
  const Timing copy = time([&]() -> Work {
    const Tensor from = random({kCopied});
    Tensor to = empty({kCopied});
    return [=]() mutable { to.copy_from(from); };
  });
  const Timing product = time([&]() -> Work {
    const Tensor a = random({kSize, kSize}), b = random({kSize, kSize});
    Tensor c = empty({kSize, kSize});
    return [=]() mutable { ops::matmul_weight(a, b, c); };
  });
  copy_rate_ = 4.0 * kCopied / copy.median;
  product_rate_ = 2.0 * kSize * kSize * kSize / product.median;
  fmt::print("{}: copy {:.0f} GB/s read and written, 8192^3 bf16 product {:.0f} TFLOP/s\n",
             cuda::Context::instance().name(), copy_rate_ * 1e-9, product_rate_ * 1e-12);
}

void GpuBench::run(const Case& timed, const std::function<Work()>& prepare) {
  if (!selected_(timed.name)) return;
  try {
    if (product_rate_ == 0) measure_yardsticks();
    report(timed, time(prepare));
  } catch (const std::exception& error) {
    ++failed_;
    fmt::print("{:<58} failed: {}\n", timed.name, error.what());
    write(nlohmann::json{{"case", timed.name}, {"error", error.what()}}.dump());
  }
  std::fflush(stdout);
  release_unused_memory(Device::kCuda);
}

GpuBench::Timing GpuBench::time(const std::function<Work()>& prepare) {
  const std::size_t before = bytes_in_use();
  std::vector<Work> works{prepare()};
  const std::size_t bytes = bytes_in_use() - before;
  while (works.size() * bytes < kRotatedBytes && works.size() < kMostPrepared) {
    works.push_back(prepare());
  }
  seconds_of(works, std::max(kWarmUps, works.size()));
  const double estimate = median(seconds_of(works, kWarmUps));
  const auto wanted = static_cast<std::size_t>(kTimedSeconds / estimate);
  const std::vector<double> seconds =
      seconds_of(works, std::clamp(wanted, kLeastIterations, kMostIterations));
  return {median(seconds), std::ranges::min(seconds), std::ranges::max(seconds), seconds.size()};
}

void GpuBench::report(const Case& timed, const Timing& timing) {
  const bool computes = timed.flops > 0;
  const double rate = (computes ? timed.flops : timed.bytes) / timing.median;
  const double shown = rate * (computes ? 1e-12 : 1e-9);
  const double share = rate / (computes ? product_rate_ : copy_rate_);
  fmt::print("{:<58} {:>9.4f} ms  {:>7.1f} {:<7} {:>5.1f} % of {}  ({:.4f} to {:.4f}, {} times)\n",
             timed.name, 1e3 * timing.median, shown, computes ? "TFLOP/s" : "GB/s", 100 * share,
             computes ? "8192^3" : "copy", 1e3 * timing.least, 1e3 * timing.most,
             timing.iterations);
  write(fmt::format(
      "{{\"case\": \"{}\", \"ms\": {:.5f}, \"ms_min\": {:.5f}, \"ms_max\": {:.5f}, "
      "\"iterations\": {}, \"{}\": {:.2f}, \"share_of_{}\": {:.4f}, \"device\": \"{}\"}}",
      timed.name, 1e3 * timing.median, 1e3 * timing.least, 1e3 * timing.most, timing.iterations,
      computes ? "tflops" : "gb_per_s", shown, computes ? "product" : "copy", share,
      cuda::Context::instance().name()));
}

void GpuBench::write(const std::string& json) {
  if (json_.is_open()) {
    json_ << json << std::endl;
  } else {
    fmt::print("{}\n", json);
  }
}

Tensor random(const Shape& shape, DType dtype) {
  constexpr std::int64_t kNumbers = std::int64_t{1} << 22;
  static const Tensor numbers = testing::random_tensor({kNumbers}, DType::kF32, "bench");
  static const Tensor single = testing::to_cuda(numbers, DType::kF32);
  static const Tensor half = testing::to_cuda(numbers, DType::kBf16);
  static std::int64_t place = 0;
  const Tensor& source = dtype == DType::kBf16 ? half : single;

  Tensor x = empty(shape, dtype);
  Tensor flat = x.reshaped({x.numel()});
  for (std::int64_t begin = 0; begin < flat.numel();) {
    // An odd stride through the numbers, in steps of 256 bytes or more.
    place = (place + 128 * 10007) % kNumbers;
    const std::int64_t end = std::min(flat.numel(), begin + kNumbers - place);
    flat.row_slice(begin, end).copy_from(source.row_slice(place, place + end - begin));
    begin = end;
  }
  return x;
}

Tensor empty(const Shape& shape, DType dtype) {
  return Tensor::empty(shape, dtype, Device::kCuda);
}

}  // namespace polyhead::bench
