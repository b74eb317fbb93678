#include <algorithm>
#include <bit>

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/cuda/gemm_choices.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

// No algorithm asks for more than 16 bytes, and fewer kinds of addresses mean fewer plans.
int alignment_of(const Tensor& x) {
  const int zeros = std::countr_zero(reinterpret_cast<std::uintptr_t>(x.raw()));
  return 1 << std::min(zeros, 4);
}

// Of a single row, the distance to the next may be anything.
std::int64_t stride_of(const Tensor& x) {
  return x.rows() == 1 ? x.cols() : x.row_stride();
}

void set_zero(Tensor& x) {
  const std::size_t element = size_of(x.dtype());
  POLYHEAD_CUDA(cudaMemset2DAsync(x.raw(), static_cast<std::size_t>(stride_of(x)) * element, 0,
                                  static_cast<std::size_t>(x.cols()) * element,
                                  static_cast<std::size_t>(x.rows()),
                                  cuda::Context::instance().stream()));
}

}  // namespace

template <>
void Matmul<Device::kCuda>::multiply(const Tensor& addend, const Tensor& a, Transpose transpose_a,
                                     const Tensor& b, Transpose transpose_b, Tensor& c) {
  if (c.numel() == 0) return;
  POLYHEAD_CHECK(a.dtype() == DType::kF32 || a.dtype() == DType::kBf16,
                 "CUDA computes in f32 or bf16, not {}", name_of(a.dtype()));
  const std::int64_t depth = transpose_a == Transpose::kYes ? a.rows() : a.cols();
  if (depth == 0) {
    if (!addend) {
      set_zero(c);
    } else if (addend.raw() != c.raw()) {
      c.copy_from(addend);
    }
    return;
  }
  const Tensor& start = addend ? addend : c;
  cuda::multiply({.input = a.dtype(),
                  .output = c.dtype(),
                  .transpose_a = transpose_a == Transpose::kYes,
                  .transpose_b = transpose_b == Transpose::kYes,
                  .accumulate = static_cast<bool>(addend),
                  .rows = c.rows(),
                  .columns = c.cols(),
                  .depth = depth,
                  .stride_a = stride_of(a),
                  .stride_b = stride_of(b),
                  .stride_c = stride_of(c),
                  .alignment_a = alignment_of(a),
                  .alignment_b = alignment_of(b),
                  .alignment_c = std::min(alignment_of(start), alignment_of(c))},
                 a.raw(), b.raw(), start.raw(), c.raw());
}

template <>
void Matmul<Device::kCuda>::set_measuring(bool on) {
  cuda::GemmChoices::set_measuring(on);
}

template <>
std::string Matmul<Device::kCuda>::choices() {
  return cuda::GemmChoices::to_json();
}

template <>
bool Matmul<Device::kCuda>::adopt_choices(const std::string& choices, const std::string& source) {
  return cuda::GemmChoices::adopt(choices, source);
}

}  // namespace polyhead::ops::kernel
