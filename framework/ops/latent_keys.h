// Keys of multi-head latent attention: each head has its own part without position and all heads
// share one rotated part (DeepSeek-V2, section 2.1.3).
#pragma once

#include "framework/ops/head_view.h"
#include "framework/ops/rope.h"
#include "framework/tensor.h"

namespace polyhead::ops {

// key[n, h] = [own[n, h] | rope(shared[n])]; row n has position n % sequence_length. One pass over
// the keys: what is shared is rotated as it is written.
void latent_keys_forward(const HeadView& own,     // (N, H, K - R)
                         const Tensor& shared,    // (N, R)
                         const RopeTable& table,  // rotates R dimensions
                         std::int64_t sequence_length,
                         HeadView& key);  // (N, H, K)
// d_own and dshared are written; dshared is the sum over this rank's heads in order, turned back.
void latent_keys_backward(const HeadView& dkey, const RopeTable& table,
                          std::int64_t sequence_length, HeadView& d_own, Tensor& dshared);

}  // namespace polyhead::ops
