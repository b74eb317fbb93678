// The fastest of cublasLt's algorithms for one product, by measuring.
#pragma once

#include "framework/cuda/gemm_plan.h"

namespace polyhead::cuda {

// Times the plan's candidates on the operands at hand, which are only read; products go to scratch
// memory of c's size that is taken from the system and given back at once. Costs at most 76
// products and twelve more for every candidate within a tenth of the fastest, each after the L2
// cache was overwritten; the host waits for them. The library's first guess where there is no room
// for the scratch. Not while the stream is captured.
cublasLtMatmulAlgo_t fastest_algorithm(GemmPlan& plan, const void* a, const void* b);

}  // namespace polyhead::cuda
