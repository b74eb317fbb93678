// From a run-time device or dtype to a template argument. This header holds the project's only
// conditional compilation on CUDA.
#pragma once

#include "framework/device.h"
#include "framework/dtype.h"
#include "framework/error.h"

namespace polyhead {

// Calls kernel.operator()<Device>(). A CPU-only build never instantiates the CUDA branch; a CUDA
// build that lacks a kernel fails to link and names it.
template <class Kernel>
decltype(auto) dispatch(Device device, Kernel&& kernel) {
  if (device == Device::kCuda) {
#if POLYHEAD_WITH_CUDA
    return kernel.template operator()<Device::kCuda>();
#else
    fail("device cuda: this binary was built without CUDA; configure with -DPOLYHEAD_WITH_CUDA=ON");
#endif
  }
  return kernel.template operator()<Device::kCpu>();
}

// Calls kernel.operator()<T>() with T = float or double, the types the CPU computes in.
template <class Kernel>
decltype(auto) dispatch_cpu_float(DType dtype, Kernel&& kernel) {
  if (dtype == DType::kF64) return kernel.template operator()<double>();
  POLYHEAD_CHECK(dtype == DType::kF32, "the CPU computes in f32 or f64, not {}", name_of(dtype));
  return kernel.template operator()<float>();
}

}  // namespace polyhead
