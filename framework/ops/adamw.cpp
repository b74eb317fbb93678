#include "framework/ops/adamw.h"

#include "framework/dispatch.h"
#include "framework/ops/checks.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {

void adamw(const Tensor& grad, const AdamwStep& step, Tensor& value, Tensor& first_moment,
           Tensor& second_moment) {
  POLYHEAD_CHECK(step.step >= 1, "adamw: step {}, but steps count from 1", step.step);
  check_same("adamw: grad", grad, value);
  check_same("adamw: first_moment", first_moment, value);
  check_same("adamw: second_moment", second_moment, value);
  POLYHEAD_CHECK(grad.is_contiguous() && value.is_contiguous() && first_moment.is_contiguous() &&
                     second_moment.is_contiguous(),
                 "adamw: memory is not flat");
  dispatch(value.device(), [&]<Device D>() {
    kernel::Adamw<D>::update(grad, step, value, first_moment, second_moment);
  });
}

}  // namespace polyhead::ops
