// The ops of a training step in bf16, on the shapes of models of 162M, 1.13B and 1.5B parameters
// (the last Qwen2.5's).
#pragma once

#include <cstdint>
#include <initializer_list>

#include "tests/bench/gpu_bench.h"

namespace polyhead::bench {

// Bound by arithmetic: products of linear layers and attention, whose mask counts the visible pairs
// only.
void time_products(GpuBench& bench);
// Bound by memory: everything else.
void time_passes(GpuBench& bench);

inline double product(std::initializer_list<std::int64_t> factors) {
  double result = 1;
  for (const std::int64_t factor : factors) result *= static_cast<double>(factor);
  return result;
}

}  // namespace polyhead::bench
