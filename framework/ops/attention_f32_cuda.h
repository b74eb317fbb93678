// Attention on CUDA in f32 throughout (no TF32), for `precision: fp32` and as the check of the
// tensor-core kernels. Private to framework/ops.
//
// Arguments as in kernel::attention_forward and attention_backward, all of them f32; head
// dimensions up to 256. O(T) memory: the backward adds B * H * Tq floats. Results are the same bits
// every time. Speed: 10 to 20 % of the device's f32 rate.
#pragma once

#include "framework/ops/attention.h"

namespace polyhead::ops::kernel {

void attention_forward_f32(const HeadView& q, const HeadView& k, const HeadView& v,
                           std::int64_t batch, const AttentionSpec& spec, HeadView& out,
                           Tensor& lse);

void attention_backward_f32(const HeadView& dout, const HeadView& q, const HeadView& k,
                            const HeadView& v, const HeadView& out, const Tensor& lse,
                            std::int64_t batch, const AttentionSpec& spec, HeadView& dq,
                            HeadView& dk, HeadView& dv);

}  // namespace polyhead::ops::kernel
