#include "framework/ops/latent_keys.h"

#include <gtest/gtest.h>

#include "tests/support/gradcheck.h"

namespace polyhead {
namespace {

constexpr std::int64_t kTokens = 3, kHeads = 5, kOwn = 4, kShared = 2, kValue = 3;
constexpr std::int64_t kKey = kOwn + kShared;

// The heads' own parts lie in [own | value] per head, the shared part in the columns of a latent.
class LatentKeys : public ::testing::Test {
 protected:
  Tensor packed_ = testing::random_tensor({kTokens, kHeads*(kOwn + kValue)}, DType::kF64, "kv");
  Tensor latent_ = testing::random_tensor({kTokens, 7}, DType::kF64, "latent");
  ops::HeadView own_ = ops::head_dims(ops::heads_of(packed_, kHeads), 0, kOwn);
  Tensor shared_ = latent_.column_slice(5, 7);
  Tensor key_ = Tensor::empty({kTokens, kHeads* kKey}, DType::kF64);
  ops::HeadView key_heads_ = ops::heads_of(key_, kHeads);
};

TEST_F(LatentKeys, PutOwnAndSharedPartsSideBySide) {
  ops::latent_keys_forward(own_, shared_, key_heads_);
  for (std::int64_t n = 0; n < kTokens; ++n) {
    for (std::int64_t h = 0; h < kHeads; ++h) {
      for (std::int64_t i = 0; i < kKey; ++i) {
        const double want = i < kOwn ? testing::at(packed_, n, h * (kOwn + kValue) + i)
                                     : testing::at(latent_, n, 5 + i - kOwn);
        EXPECT_EQ(testing::at(key_, n, h * kKey + i), want);
      }
    }
  }
}

TEST_F(LatentKeys, Gradients) {
  const Tensor dkey = testing::random_tensor(key_.shape(), DType::kF64, "dkey");
  Tensor dpacked = Tensor::empty_like(packed_), dlatent = Tensor::empty_like(latent_);
  Tensor dshared = dlatent.column_slice(5, 7);
  ops::HeadView d_own = ops::head_dims(ops::heads_of(dpacked, kHeads), 0, kOwn);
  ops::latent_keys_backward(ops::heads_of(dkey, kHeads), d_own, dshared);

  testing::GradientCheck check;
  check.add("shared", shared_, dshared);
  for (std::int64_t h = 0; h < kHeads; ++h) {
    const std::int64_t begin = h * (kOwn + kValue);
    check.add("own", packed_.column_slice(begin, begin + kOwn),
              dpacked.column_slice(begin, begin + kOwn));
  }
  check.expect_close([&] {
    ops::latent_keys_forward(own_, shared_, key_heads_);
    return testing::weighted_sum(key_, dkey);
  });
}

TEST_F(LatentKeys, WrongShapesAreCaught) {
  Tensor wide = latent_.column_slice(0, 3);
  EXPECT_THROW(ops::latent_keys_forward(own_, wide, key_heads_), std::logic_error);
}

}  // namespace
}  // namespace polyhead
