#include "framework/ops/elementwise.h"

#include "framework/dispatch.h"
#include "framework/ops/checks.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {

void fill(double value, Tensor& x) {
  dispatch(x.device(), [&]<Device D>() { kernel::Elementwise<D>::fill(value, x); });
}

void scale(double factor, Tensor& x) {
  dispatch(x.device(), [&]<Device D>() { kernel::Elementwise<D>::scale(factor, x); });
}

void add(const Tensor& a, const Tensor& b, Tensor& y) {
  check_same("add: b", b, a);
  check_same("add: y", y, a);
  dispatch(y.device(), [&]<Device D>() { kernel::Elementwise<D>::add(a, b, y); });
}

void add_to(const Tensor& x, Tensor& y) {
  add(y, x, y);
}

void add_bias(const Tensor& bias, Tensor& y) {
  check_matrix("add_bias: bias", bias, 1, y.cols(), y);
  dispatch(y.device(), [&]<Device D>() { kernel::Elementwise<D>::add_bias(bias, y); });
}

void bias_backward(const Tensor& dy, Tensor& dbias) {
  check_accumulated("bias_backward: dbias", dbias, 1, dy.cols(), dy);
  dispatch(dy.device(), [&]<Device D>() { kernel::Elementwise<D>::bias_backward(dy, dbias); });
}

void softcap_forward(double cap, Tensor& x) {
  POLYHEAD_CHECK(cap > 0, "softcap of {}", cap);
  dispatch(x.device(), [&]<Device D>() { kernel::Elementwise<D>::softcap_forward(cap, x); });
}

void softcap_backward(const Tensor& y, double cap, Tensor& dy) {
  POLYHEAD_CHECK(cap > 0, "softcap of {}", cap);
  check_same("softcap_backward: dy", dy, y);
  dispatch(y.device(), [&]<Device D>() { kernel::Elementwise<D>::softcap_backward(y, cap, dy); });
}

void add_sum(double factor, const Tensor& x, Tensor& total) {
  check_matrix("add_sum: total", total, 1, 1, DType::kF64, x.device());
  dispatch(x.device(), [&]<Device D>() { kernel::Elementwise<D>::add_sum(factor, x, total); });
}

void add_sum_squares(const Tensor& x, Tensor& total) {
  check_matrix("add_sum_squares: total", total, 1, 1, DType::kF64, x.device());
  dispatch(x.device(), [&]<Device D>() { kernel::Elementwise<D>::add_sum_squares(x, total); });
}

void clip_scale(const Tensor& squares, double max_norm, Tensor& scale) {
  check_matrix("clip_scale: squares", squares, 1, 1, DType::kF64, scale.device());
  check_matrix("clip_scale: scale", scale, 1, 1, DType::kF64, scale.device());
  dispatch(scale.device(),
           [&]<Device D>() { kernel::Elementwise<D>::clip_scale(squares, max_norm, scale); });
}

bool all_finite(const Tensor& x) {
  return dispatch(x.device(), [&]<Device D>() { return kernel::Elementwise<D>::all_finite(x); });
}

}  // namespace polyhead::ops
