#include "framework/ops/normalization.h"

#include "framework/dispatch.h"
#include "framework/ops/checks.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {

void rms_norm_forward(const Tensor& x, const Tensor& weight, NormWeight form, double epsilon,
                      Tensor& y, Tensor& rstd) {
  check_matrix("rms_norm_forward: weight", weight, 1, x.cols(), x);
  check_same("rms_norm_forward: y", y, x);
  check_matrix("rms_norm_forward: rstd", rstd, 1, x.rows(), x);
  dispatch(x.device(),
           [&]<Device D>() { kernel::RmsNorm<D>::forward(x, weight, form, epsilon, y, rstd); });
}

void rms_norm_apply(const Tensor& x, const Tensor& weight, NormWeight form, const Tensor& rstd,
                    Tensor& y) {
  check_matrix("rms_norm_apply: weight", weight, 1, x.cols(), x);
  check_same("rms_norm_apply: y", y, x);
  check_matrix("rms_norm_apply: rstd", rstd, 1, x.rows(), x);
  dispatch(x.device(), [&]<Device D>() { kernel::RmsNorm<D>::apply(x, weight, form, rstd, y); });
}

void rms_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight, NormWeight form,
                       const Tensor& rstd, Tensor& dx, Tensor& dweight) {
  check_same("rms_norm_backward: dy", dy, x);
  check_matrix("rms_norm_backward: weight", weight, 1, x.cols(), x);
  check_matrix("rms_norm_backward: rstd", rstd, 1, x.rows(), x);
  check_same("rms_norm_backward: dx", dx, x);
  check_matrix("rms_norm_backward: dweight", dweight, 1, x.cols(), x);
  dispatch(x.device(), [&]<Device D>() {
    kernel::RmsNorm<D>::backward(dy, x, weight, form, rstd, dx, dweight);
  });
}

void layer_norm_forward(const Tensor& x, const Tensor& weight, const Tensor& bias, double epsilon,
                        Tensor& y, Tensor& statistics) {
  check_matrix("layer_norm_forward: weight", weight, 1, x.cols(), x);
  check_matrix("layer_norm_forward: bias", bias, 1, x.cols(), x);
  check_same("layer_norm_forward: y", y, x);
  check_matrix("layer_norm_forward: statistics", statistics, x.rows(), 2, x);
  dispatch(x.device(), [&]<Device D>() {
    kernel::LayerNorm<D>::forward(x, weight, bias, epsilon, y, statistics);
  });
}

void layer_norm_apply(const Tensor& x, const Tensor& weight, const Tensor& bias,
                      const Tensor& statistics, Tensor& y) {
  check_matrix("layer_norm_apply: weight", weight, 1, x.cols(), x);
  check_matrix("layer_norm_apply: bias", bias, 1, x.cols(), x);
  check_matrix("layer_norm_apply: statistics", statistics, x.rows(), 2, x);
  check_same("layer_norm_apply: y", y, x);
  dispatch(x.device(),
           [&]<Device D>() { kernel::LayerNorm<D>::apply(x, weight, bias, statistics, y); });
}

void layer_norm_backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                         const Tensor& statistics, Tensor& dx, Tensor& dweight, Tensor& dbias) {
  check_same("layer_norm_backward: dy", dy, x);
  check_matrix("layer_norm_backward: weight", weight, 1, x.cols(), x);
  check_matrix("layer_norm_backward: statistics", statistics, x.rows(), 2, x);
  check_same("layer_norm_backward: dx", dx, x);
  check_matrix("layer_norm_backward: dweight", dweight, 1, x.cols(), x);
  check_matrix("layer_norm_backward: dbias", dbias, 1, x.cols(), x);
  dispatch(x.device(), [&]<Device D>() {
    kernel::LayerNorm<D>::backward(dy, x, weight, statistics, dx, dweight, dbias);
  });
}

}  // namespace polyhead::ops
