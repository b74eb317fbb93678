#include "framework/ops/latent_keys.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/gradcheck.h"

namespace polyhead {
namespace {

constexpr std::int64_t kTokens = 6, kLength = 3, kHeads = 5, kOwn = 3, kShared = 4, kValue = 2;
constexpr std::int64_t kKey = kOwn + kShared, kLatent = 5;
constexpr double kFrequencies[] = {1.0, 0.3}, kAmplitude = 1.25;

// The heads' own parts lie in [own | value] per head, the shared part in the columns of a latent.
class LatentKeys : public ::testing::Test {
 protected:
  Tensor packed_ = testing::random_tensor({kTokens, kHeads*(kOwn + kValue)}, DType::kF64, "kv");
  Tensor latent_ = testing::random_tensor({kTokens, kLatent + kShared}, DType::kF64, "latent");
  ops::HeadView own_ = ops::head_dims(ops::heads_of(packed_, kHeads), 0, kOwn);
  Tensor shared_ = latent_.column_slice(kLatent, kLatent + kShared);
  ops::RopeTable table_ = ops::make_rope_table({kFrequencies[0], kFrequencies[1]}, kAmplitude,
                                               kLength + 1, DType::kF64);
  Tensor key_ = Tensor::empty({kTokens, kHeads* kKey}, DType::kF64);
  ops::HeadView key_heads_ = ops::heads_of(key_, kHeads);
};

TEST_F(LatentKeys, PutOwnAndRotatedPartsSideBySide) {
  ops::latent_keys_forward(own_, shared_, table_, kLength, key_heads_);
  for (std::int64_t n = 0; n < kTokens; ++n) {
    for (std::int64_t h = 0; h < kHeads; ++h) {
      for (std::int64_t i = 0; i < kOwn; ++i) {
        EXPECT_EQ(testing::at(key_, n, h * kKey + i),
                  testing::at(packed_, n, h * (kOwn + kValue) + i));
      }
      for (std::int64_t j = 0; j < kShared / 2; ++j) {
        const double angle = static_cast<double>(n % kLength) * kFrequencies[j];
        const double x = testing::at(shared_, n, j), y = testing::at(shared_, n, j + kShared / 2);
        const std::int64_t column = h * kKey + kOwn + j;
        EXPECT_NEAR(testing::at(key_, n, column),
                    kAmplitude * (x * std::cos(angle) - y * std::sin(angle)), 1e-15);
        EXPECT_NEAR(testing::at(key_, n, column + kShared / 2),
                    kAmplitude * (x * std::sin(angle) + y * std::cos(angle)), 1e-15);
      }
    }
  }
}

TEST_F(LatentKeys, Gradients) {
  const Tensor dkey = testing::random_tensor(key_.shape(), DType::kF64, "dkey");
  Tensor dpacked = Tensor::empty_like(packed_), dlatent = Tensor::empty_like(latent_);
  Tensor dshared = dlatent.column_slice(kLatent, kLatent + kShared);
  ops::HeadView d_own = ops::head_dims(ops::heads_of(dpacked, kHeads), 0, kOwn);
  ops::latent_keys_backward(ops::heads_of(dkey, kHeads), table_, kLength, d_own, dshared);

  testing::GradientCheck check;
  check.add("shared", shared_, dshared);
  for (std::int64_t h = 0; h < kHeads; ++h) {
    const std::int64_t begin = h * (kOwn + kValue);
    check.add("own", packed_.column_slice(begin, begin + kOwn),
              dpacked.column_slice(begin, begin + kOwn));
  }
  check.expect_close([&] {
    ops::latent_keys_forward(own_, shared_, table_, kLength, key_heads_);
    return testing::weighted_sum(key_, dkey);
  });
}

TEST_F(LatentKeys, WrongShapesAreCaught) {
  const auto forward = [&](const Tensor& shared, const ops::RopeTable& table, std::int64_t length) {
    ops::latent_keys_forward(own_, shared, table, length, key_heads_);
  };
  EXPECT_THROW(forward(latent_.column_slice(0, 3), table_, kLength), std::logic_error);
  EXPECT_THROW(forward(shared_, table_, kLength + 2), std::logic_error);
  const auto narrow = ops::make_rope_table({1.0}, 1, kLength, DType::kF64);
  EXPECT_THROW(forward(shared_, narrow, kLength), std::logic_error);
}

}  // namespace
}  // namespace polyhead
