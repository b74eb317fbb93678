// Times the ops of a training step on the CUDA device: matrix products and attention with their
// TFLOP/s, all else with the GB/s of what it must read and write. See gpu_bench.h for how.
//
//   bench_gpu_ops [--filter SUBSTRING] [--json FILE]
#include <CLI/CLI.hpp>

#include "framework/device_system.h"
#include "framework/error.h"
#include "tests/bench/gpu_cases.h"

int main(int argc, char** argv) {
  std::string filter, json;
  CLI::App app("Times the ops of a training step on the CUDA device");
  app.add_option("--filter", filter, "Only cases whose name contains this");
  app.add_option("--json", json, "Append one JSON object for each case to this file");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::string missing = polyhead::missing_device(polyhead::Device::kCuda);
    polyhead::require(missing.empty(), "{}", missing);
    polyhead::bench::GpuBench bench(filter, json);
    polyhead::bench::time_products(bench);
    polyhead::bench::time_passes(bench);
    return bench.failed() == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    polyhead::print_error(error.what());
    return 1;
  }
}
