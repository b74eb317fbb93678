#include "framework/ops/normalization.h"

#include "framework/dispatch.h"
#include "framework/ops/checks.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {
namespace {

void check_residual(const Residual& residual, const Tensor& x) {
  POLYHEAD_CHECK(static_cast<bool>(residual.addend) == static_cast<bool>(residual.sum),
                 "norm: an addend and its sum come together");
  if (!residual.addend) return;
  check_same("norm: addend", residual.addend, x);
  check_same("norm: sum", residual.sum, x);
}

// dresidual is empty or like dx, which is like x.
void check_input_gradients(const Tensor& dresidual, const Tensor& dx, const Tensor& x) {
  if (dresidual) check_same("norm: dresidual", dresidual, x);
  check_same("norm: dx", dx, x);
}

}  // namespace

void rms_norm_forward(const Tensor& x, const Tensor& weight, NormWeight form, double epsilon,
                      Residual residual, Tensor& y, Tensor& rstd) {
  check_residual(residual, x);
  check_matrix("rms_norm_forward: weight", weight, 1, x.cols(), x);
  check_same("rms_norm_forward: y", y, x);
  check_accumulated("rms_norm_forward: rstd", rstd, 1, x.rows(), x);
  dispatch(x.device(), [&]<Device D>() {
    kernel::RmsNorm<D>::forward(residual.addend, x, weight, form, epsilon, residual.sum, y, rstd);
  });
}

void rms_norm_apply(const Tensor& x, const Tensor& weight, NormWeight form, const Tensor& rstd,
                    Tensor& y) {
  check_matrix("rms_norm_apply: weight", weight, 1, x.cols(), x);
  check_same("rms_norm_apply: y", y, x);
  check_accumulated("rms_norm_apply: rstd", rstd, 1, x.rows(), x);
  dispatch(x.device(), [&]<Device D>() { kernel::RmsNorm<D>::apply(x, weight, form, rstd, y); });
}

void rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, NormWeight form,
                       const Tensor& rstd, const Tensor& dresidual, Tensor& dx, Tensor& dweight) {
  check_same("rms_norm_backward: dy", dy, x);
  check_matrix("rms_norm_backward: weight", weight, 1, x.cols(), x);
  check_accumulated("rms_norm_backward: rstd", rstd, 1, x.rows(), x);
  check_input_gradients(dresidual, dx, x);
  check_accumulated("rms_norm_backward: dweight", dweight, 1, x.cols(), x);
  dispatch(x.device(), [&]<Device D>() {
    kernel::RmsNorm<D>::backward(dy, x, weight, form, rstd, dresidual, dx, dweight);
  });
}

void layer_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon,
                        Residual residual, Tensor& y, Tensor& statistics) {
  check_residual(residual, x);
  check_matrix("layer_norm_forward: weight", weight, 1, x.cols(), x);
  check_matrix("layer_norm_forward: bias", bias, 1, x.cols(), x);
  check_same("layer_norm_forward: y", y, x);
  check_accumulated("layer_norm_forward: statistics", statistics, x.rows(), 2, x);
  dispatch(x.device(), [&]<Device D>() {
    kernel::LayerNorm<D>::forward(residual.addend, x, weight, bias, epsilon, residual.sum, y,
                                  statistics);
  });
}

void layer_norm_apply(const Tensor& x, const Tensor& weight, const Tensor& bias,
                      const Tensor& statistics, Tensor& y) {
  check_matrix("layer_norm_apply: weight", weight, 1, x.cols(), x);
  check_matrix("layer_norm_apply: bias", bias, 1, x.cols(), x);
  check_accumulated("layer_norm_apply: statistics", statistics, x.rows(), 2, x);
  check_same("layer_norm_apply: y", y, x);
  dispatch(x.device(),
           [&]<Device D>() { kernel::LayerNorm<D>::apply(x, weight, bias, statistics, y); });
}

void layer_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& statistics, const Tensor& dresidual, Tensor& dx,
                         Tensor& dweight, Tensor& dbias) {
  check_same("layer_norm_backward: dy", dy, x);
  check_matrix("layer_norm_backward: weight", weight, 1, x.cols(), x);
  check_accumulated("layer_norm_backward: statistics", statistics, x.rows(), 2, x);
  check_input_gradients(dresidual, dx, x);
  check_accumulated("layer_norm_backward: dweight", dweight, 1, x.cols(), x);
  check_accumulated("layer_norm_backward: dbias", dbias, 1, x.cols(), x);
  dispatch(x.device(), [&]<Device D>() {
    kernel::LayerNorm<D>::backward(dy, x, weight, statistics, dresidual, dx, dweight, dbias);
  });
}

}  // namespace polyhead::ops
