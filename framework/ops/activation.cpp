#include "framework/ops/activation.h"

#include "framework/dispatch.h"
#include "framework/ops/checks.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {
namespace {

// x is (N, 2F) for a gated activation and (N, F) otherwise, `result` the (N, F) tensor beside it.
void check_input(const Tensor& x, Activation activation, const Tensor& result) {
  check_matrix("activation: x", x, result.rows(), (is_gated(activation) ? 2 : 1) * result.cols(),
               result);
}

}  // namespace

void activation_forward(const Tensor& x, Activation activation, Tensor& y) {
  check_input(x, activation, y);
  dispatch(x.device(), [&]<Device D>() { kernel::MlpActivation<D>::forward(x, activation, y); });
}

void activation_backward(const Tensor& dy, const Tensor& x, Activation activation, Tensor& dx) {
  check_input(x, activation, dy);
  check_same("activation_backward: dx", dx, x);
  dispatch(x.device(),
           [&]<Device D>() { kernel::MlpActivation<D>::backward(dy, x, activation, dx); });
}

}  // namespace polyhead::ops
