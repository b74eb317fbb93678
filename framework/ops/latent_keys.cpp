#include "framework/ops/latent_keys.h"

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops {
namespace {

void check(const HeadView& own, const Tensor& shared, const RopeTable& table,
           std::int64_t sequence_length, const HeadView& key) {
  POLYHEAD_CHECK(own.heads == key.heads && own.head_dim + shared.cols() == key.head_dim &&
                     own.columns.rows() == key.columns.rows() &&
                     shared.rows() == key.columns.rows(),
                 "keys of {} heads x {} from {} heads x {} and a shared part of {}", key.heads,
                 key.head_dim, own.heads, own.head_dim, shared.cols());
  check_rope(table, sequence_length, heads_of(shared, 1));
  POLYHEAD_CHECK(2 * table.cos.cols() == shared.cols(), "rotating {} dimensions of {}",
                 2 * table.cos.cols(), shared.cols());
}

}  // namespace

void latent_keys_forward(const HeadView& own, const Tensor& shared, const RopeTable& table,
                         std::int64_t sequence_length, HeadView& key) {
  check(own, shared, table, sequence_length, key);
  dispatch(shared.device(), [&]<Device D>() {
    kernel::LatentKeys<D>::forward(own, shared, table, sequence_length, key);
  });
}

void latent_keys_backward(const HeadView& dkey, const RopeTable& table,
                          std::int64_t sequence_length, HeadView& d_own, Tensor& dshared) {
  check(d_own, dshared, table, sequence_length, dkey);
  dispatch(dshared.device(), [&]<Device D>() {
    kernel::LatentKeys<D>::backward(dkey, table, sequence_length, d_own, dshared);
  });
}

}  // namespace polyhead::ops
