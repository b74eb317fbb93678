#include "framework/ops/matmul.h"

#include "framework/dispatch.h"
#include "framework/ops/checks.h"
#include "framework/ops/kernels.h"
#include "framework/profiler.h"

namespace polyhead::ops {
namespace {

// c = addend + op(a) op(b); `addend` may be empty, or c.
void multiply_onto(const Tensor& addend, const Tensor& a, Transpose transpose_a, const Tensor& b,
                   Transpose transpose_b, Tensor& c) {
  const ProfileScope scope(Work::kMatmul);
  const bool a_turned = transpose_a == Transpose::kYes, b_turned = transpose_b == Transpose::kYes;
  const std::int64_t depth = a_turned ? a.rows() : a.cols();
  POLYHEAD_CHECK(depth == (b_turned ? b.cols() : b.rows()), "matmul of {}{} and {}{}",
                 a.shape().to_string(), a_turned ? " transposed" : "", b.shape().to_string(),
                 b_turned ? " transposed" : "");
  check_matrix("matmul: b", b, b.rows(), b.cols(), a);
  check_matrix("matmul: c", c, a_turned ? a.cols() : a.rows(), b_turned ? b.rows() : b.cols(),
               c.dtype(), a.device());
  POLYHEAD_CHECK(c.dtype() == a.dtype() || c.dtype() == accumulation_dtype(a.dtype()),
                 "matmul: c is {}, the inputs are {}", name_of(c.dtype()), name_of(a.dtype()));
  POLYHEAD_CHECK(c.raw() != a.raw() && c.raw() != b.raw(), "matmul: c is also an input");
  dispatch(c.device(), [&]<Device D>() {
    kernel::Matmul<D>::multiply(addend, a, transpose_a, b, transpose_b, c);
  });
}

}  // namespace

void matmul(const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b,
            Accumulate accumulate, Tensor& c) {
  multiply_onto(accumulate == Accumulate::kYes ? c : Tensor(), a, transpose_a, b, transpose_b, c);
}

void matmul_weight_onto(const Tensor& addend, const Tensor& x, const Tensor& weight, Tensor& y) {
  check_matrix("matmul: addend", addend, y.rows(), y.cols(), y);
  POLYHEAD_CHECK(y.rows() == 1 || addend.row_stride() == y.row_stride(),
                 "matmul: rows of the addend are {} apart, of the result {}", addend.row_stride(),
                 y.row_stride());
  multiply_onto(addend, x, Transpose::kNo, weight, Transpose::kYes, y);
}

void set_matmul_measuring(Device device, bool on) {
  dispatch(device, [&]<Device D>() { kernel::Matmul<D>::set_measuring(on); });
}

std::string matmul_choices(Device device) {
  return dispatch(device, []<Device D>() { return kernel::Matmul<D>::choices(); });
}

bool adopt_matmul_choices(Device device, const std::string& choices, const std::string& source) {
  return dispatch(device,
                  [&]<Device D>() { return kernel::Matmul<D>::adopt_choices(choices, source); });
}

}  // namespace polyhead::ops
