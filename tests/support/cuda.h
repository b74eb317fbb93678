// Moving test data to the CUDA device and back.
#pragma once

#include "framework/bf16.h"
#include "tests/support/compare.h"

namespace polyhead::testing {

// A contiguous device tensor with the values of a host one of f32, f64 or i32, rounded to `dtype`.
inline Tensor to_cuda(const Tensor& host, DType dtype) {
  if (dtype == host.dtype()) return host.to(Device::kCuda);
  Tensor rounded = Tensor::empty(host.shape(), dtype);
  for (std::int64_t row = 0; row < host.rows(); ++row) {
    for (std::int64_t col = 0; col < host.cols(); ++col) {
      const std::int64_t i = row * host.cols() + col;
      if (dtype == DType::kBf16) {
        rounded.data<Bf16>()[i] = to_bf16(static_cast<float>(at(host, row, col)));
      } else {
        rounded.data<float>()[i] = static_cast<float>(at(host, row, col));
      }
    }
  }
  return rounded.to(Device::kCuda);
}

// The values of a device tensor: bf16 becomes f32, other dtypes stay.
inline Tensor to_host(const Tensor& device) {
  const Tensor copy = device.to(Device::kCpu);
  if (copy.dtype() != DType::kBf16) return copy;
  Tensor wide = Tensor::empty(copy.shape(), DType::kF32);
  for (std::int64_t i = 0; i < copy.numel(); ++i) {
    wide.data<float>()[i] = to_float(copy.data<Bf16>()[i]);
  }
  return wide;
}

// The same tensor with every value rounded to bf16.
inline Tensor rounded_to_bf16(const Tensor& host) {
  Tensor rounded = host.clone();
  dispatch_cpu_float(host.dtype(), [&]<class T>() {
    for (std::int64_t i = 0; i < rounded.numel(); ++i) {
      rounded.data<T>()[i] =
          static_cast<T>(to_float(to_bf16(static_cast<float>(rounded.data<T>()[i]))));
    }
  });
  return rounded;
}

}  // namespace polyhead::testing
