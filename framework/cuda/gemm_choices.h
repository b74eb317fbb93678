// Which algorithm computes which matrix product in this process.
//
// The first product of a shape decides and all later ones find its plan by a hash lookup. The
// algorithm is, in this order: the one that was adopted from another rank or an earlier run; where
// the product is worth it, the fastest by measuring (gemm_timing.h: a hundred times the product's
// own time or so, so one or two seconds for the shapes of a model of 1B parameters); the library's
// first guess. Any one algorithm gives the same bits at every run, but two runs that measure may
// choose differently: for equal bits adopt the choices of the first or do not measure.
//
// Choices hold for one version of cublasLt on one kind of device. A recorded CUDA graph keeps the
// algorithms it was recorded with.
#pragma once

#include <string>

#include "framework/cuda/gemm_plan.h"

namespace polyhead::cuda {

struct GemmChoices {
  // On by default.
  static void set_measuring(bool on);

  // All choices so far: {"system": DEVICE_AND_VERSION, "algorithms": {PROBLEM: HEX, ...}}.
  static std::string to_json();
  // Takes over the choices of another process, also for products that have a plan by now.
  // False, and nothing taken, if they are another version's or device's. Throws Error, naming
  // `source`, if the text is not what to_json writes.
  static bool adopt(const std::string& json, const std::string& source);
};

// On the context's stream, by this process's choice for the problem; see GemmPlan::run.
void multiply(const GemmProblem& problem, const void* a, const void* b, const void* addend,
              void* c);

}  // namespace polyhead::cuda
