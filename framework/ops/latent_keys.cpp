#include "framework/ops/latent_keys.h"

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {
namespace {

void check(const HeadView& own, const Tensor& shared, const HeadView& key) {
  POLYHEAD_CHECK(own.heads == key.heads && own.head_dim + shared.cols() == key.head_dim &&
                     own.columns.rows() == key.columns.rows() &&
                     shared.rows() == key.columns.rows(),
                 "keys of {} heads x {} from {} heads x {} and a shared part of {}", key.heads,
                 key.head_dim, own.heads, own.head_dim, shared.cols());
}

}  // namespace

void latent_keys_forward(const HeadView& own, const Tensor& shared, HeadView& key) {
  check(own, shared, key);
  dispatch(shared.device(), [&]<Device D>() { kernel::LatentKeys<D>::forward(own, shared, key); });
}

void latent_keys_backward(const HeadView& dkey, HeadView& d_own, Tensor& dshared) {
  check(d_own, dshared, dkey);
  dispatch(dshared.device(),
           [&]<Device D>() { kernel::LatentKeys<D>::backward(dkey, d_own, dshared); });
}

}  // namespace polyhead::ops
