// Keys of multi-head latent attention: each head has its own part without position and all heads
// share one rotated part (DeepSeek-V2, section 2.1.3).
#pragma once

#include "framework/ops/head_view.h"
#include "framework/tensor.h"

namespace polyhead::ops {

// key[n, h] = [own[n, h] | shared[n]]
void latent_keys_forward(const HeadView& own,   // (N, H, K - R)
                         const Tensor& shared,  // (N, R)
                         HeadView& key);        // (N, H, K)
// d_own and dshared are written; dshared sums over this rank's heads in order.
void latent_keys_backward(const HeadView& dkey, HeadView& d_own, Tensor& dshared);

}  // namespace polyhead::ops
