// Times the ops of a training step on the CUDA device: matrix products and attention with their
// TFLOP/s, all else with the GB/s of what it must read and write. See gpu_bench.h for how.
//
//   bench_gpu_ops [--filter SUBSTRING] [--json FILE]
//   bench_gpu_ops --list                               the names of the cases
//   bench_gpu_ops --stdin                              times the cases named there, one a line, as
//                                                      they come; the last line about each is JSON
#include <CLI/CLI.hpp>
#include <iostream>
#include <nlohmann/json.hpp>

#include "framework/device_system.h"
#include "framework/error.h"
#include "tests/bench/gpu_cases.h"

namespace polyhead::bench {
namespace {

void time_selected(GpuBench& bench) {
  time_products(bench);
  time_passes(bench);
}

void list_cases(GpuBench& bench) {
  bench.select([](const std::string& name) {
    fmt::print("{}\n", name);
    return false;
  });
  time_selected(bench);
}

void time_named_cases(GpuBench& bench) {
  std::string wanted;
  while (std::getline(std::cin, wanted)) {
    bool found = false;
    bench.select([&](const std::string& name) {
      found = found || name == wanted;
      return name == wanted;
    });
    time_selected(bench);
    if (!found) {
      const nlohmann::json answer{{"case", wanted}, {"error", "there is no case of this name"}};
      fmt::print("{}\n", answer.dump());
    }
    std::fflush(stdout);
  }
}

}  // namespace
}  // namespace polyhead::bench

int main(int argc, char** argv) {
  std::string filter, json;
  bool list = false, from_stdin = false;
  CLI::App app("Times the ops of a training step on the CUDA device");
  app.add_option("--filter", filter, "Only cases whose name contains this");
  app.add_option("--json", json, "Append one JSON object for each case to this file");
  app.add_flag("--list", list, "Print the names of the cases");
  app.add_flag("--stdin", from_stdin, "Time the cases named on standard input, one a line")
      ->excludes("--filter", "--json", "--list");
  CLI11_PARSE(app, argc, argv);
  try {
    const std::string missing = polyhead::missing_device(polyhead::Device::kCuda);
    polyhead::require(missing.empty(), "{}", missing);
    polyhead::bench::GpuBench bench(json);
    if (list) {
      polyhead::bench::list_cases(bench);
    } else if (from_stdin) {
      polyhead::bench::time_named_cases(bench);
    } else {
      bench.select([&](const std::string& name) { return name.find(filter) != std::string::npos; });
      polyhead::bench::time_selected(bench);
    }
    return bench.failed() == 0 ? 0 : 1;
  } catch (const std::exception& error) {
    polyhead::print_error(error.what());
    return 1;
  }
}
