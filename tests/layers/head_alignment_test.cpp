#include "layers/conversion/head_alignment.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "layers/conversion/head_tensors.h"
#include "tests/support/compare.h"

namespace polyhead {
namespace {

using testing::random_tensor;

constexpr std::int64_t kHeadDim = 6, kHidden = 13;

Tensor matrix(std::int64_t rows, std::int64_t columns, const std::string& name) {
  return random_tensor({rows, columns}, DType::kF64, name);
}

Tensor random_rotation(const RotationFreedom& freedom, const std::string& name) {
  return best_rotation(matrix(kHeadDim, kHeadDim, name), freedom);
}

Tensor covariance() {
  return inner_products(matrix(kHidden, 3 * kHidden, "inputs"), {});
}

RotationFreedom partly_rotary() {
  return key_freedom(kHeadDim, 4, {}, {});
}

std::vector<RotationFreedom> freedoms() {
  return {value_freedom(kHeadDim), key_freedom(kHeadDim, kHeadDim, {}, {}), partly_rotary()};
}

TEST(RotationFreedom, FollowsTheRotaryEmbeddingAndTheNorms) {
  using Pairs = std::vector<std::pair<std::int64_t, std::int64_t>>;
  using Blocks = std::vector<std::vector<std::int64_t>>;
  EXPECT_EQ(key_freedom(6, 6, {}, {}).pairs, (Pairs{{0, 3}, {1, 4}, {2, 5}}));
  EXPECT_TRUE(key_freedom(6, 6, {}, {}).blocks.empty());
  EXPECT_EQ(partly_rotary().pairs, (Pairs{{0, 2}, {1, 3}}));
  EXPECT_EQ(partly_rotary().blocks, (Blocks{{4, 5}}));
  EXPECT_EQ(key_freedom(6, 0, {}, {}).blocks, (Blocks{{0, 1, 2, 3, 4, 5}}));

  Tensor query = testing::ones({6}), key = testing::ones({6});
  key.data<double>()[1] = 2;    // no longer equal to 3's
  query.data<double>()[5] = 3;  // no longer equal to 4's
  const RotationFreedom normed = key_freedom(6, 4, query, key);
  EXPECT_EQ(normed.pairs, (Pairs{{0, 2}}));
  EXPECT_EQ(normed.blocks, (Blocks{{4}, {5}}));
  EXPECT_EQ(normed.dimensions(), 4);
}

double distance(const Tensor& rotation, const Tensor& w, const Tensor& target,
                const Tensor& metric) {
  Tensor difference = rotated_rows(w, {rotation});
  for (std::int64_t i = 0; i < difference.numel(); ++i) {
    difference.data<double>()[i] -= target.data<double>()[i];
  }
  return squared_norm(difference, metric);
}

TEST(BestRotation, IsAllowedAndNoneIsBetter) {
  const Tensor w = matrix(kHeadDim, kHidden, "w"), target = matrix(kHeadDim, kHidden, "target");
  for (const Tensor& metric : {Tensor(), covariance()}) {
    Tensor both = Tensor::empty({2 * kHeadDim, kHidden}, DType::kF64);
    both.row_slice(0, kHeadDim).copy_from(target);
    both.row_slice(kHeadDim, 2 * kHeadDim).copy_from(w);
    const Tensor products = inner_products(both, metric)
                                .row_slice(0, kHeadDim)
                                .column_slice(kHeadDim, 2 * kHeadDim)
                                .clone();
    for (const RotationFreedom& freedom : freedoms()) {
      const Tensor best = best_rotation(products, freedom);
      const Tensor identity =
          best_rotation(Tensor::zeros({kHeadDim, kHeadDim}, DType::kF64), {});  // nothing free
      EXPECT_LE(testing::relative_error(inner_products(best, {}), identity), 1e-13);
      const double least = distance(best, w, target, metric);
      EXPECT_LT(least, distance(identity, w, target, metric));
      for (int trial = 0; trial < 200; ++trial) {
        const Tensor other = random_rotation(freedom, "trial" + std::to_string(trial));
        EXPECT_GE(distance(other, w, target, metric), least * (1 - 1e-12));
      }
    }
  }
}

TEST(Alignment, NeverIncreasesItsObjective) {
  constexpr std::int64_t kMembers = 4;
  const Tensor members = matrix(kMembers * kHeadDim, kHidden, "members");
  for (const Tensor& metric : {Tensor(), covariance()}) {
    const Tensor products = inner_products(members, metric);
    for (const RotationFreedom& freedom : freedoms()) {
      const MemberAlignment alignment = align_members(products, kMembers, freedom);
      const std::vector<double>& objective = alignment.objective;
      ASSERT_GE(objective.size(), 3U);
      for (std::size_t i = 1; i < objective.size(); ++i) {
        EXPECT_LE(objective[i], objective[i - 1] + 1e-12 * objective[0]);
      }
      EXPECT_LT(objective.back(), 0.999 * objective.front());

      // The last one is what the definition gives for the rotations that were returned.
      const Tensor aligned = rotated_rows(members, alignment.rotations);
      Tensor mean = Tensor::zeros({kHeadDim, kHidden}, DType::kF64);
      for (std::int64_t i = 0; i < aligned.numel(); ++i) {
        mean.data<double>()[i % mean.numel()] += aligned.data<double>()[i] / kMembers;
      }
      double sum = 0;
      for (std::int64_t m = 0; m < kMembers; ++m) {
        sum += distance(alignment.rotations[static_cast<std::size_t>(m)],
                        members.row_slice(m * kHeadDim, (m + 1) * kHeadDim).clone(), mean, metric);
      }
      EXPECT_NEAR(sum, objective.back(), 1e-10 * sum);
      EXPECT_LE(testing::relative_error(rotated_products(products, alignment.rotations),
                                        inner_products(aligned, metric)),
                1e-12);
    }
  }
}

TEST(Alignment, FindsHiddenRotations) {
  constexpr std::int64_t kMembers = 5;
  const Tensor head = matrix(kHeadDim, kHidden, "head");
  for (const RotationFreedom& freedom : freedoms()) {
    Tensor members = Tensor::empty({kMembers * kHeadDim, kHidden}, DType::kF64);
    for (std::int64_t m = 0; m < kMembers; ++m) {
      members.row_slice(m * kHeadDim, (m + 1) * kHeadDim)
          .copy_from(rotated_rows(head, {random_rotation(freedom, std::to_string(m))}));
    }
    const Tensor products = inner_products(members, {});
    const Tensor aligned =
        rotated_rows(members, align_members(products, kMembers, freedom).rotations);
    const Tensor first = aligned.row_slice(0, kHeadDim);
    for (std::int64_t m = 1; m < kMembers; ++m) {
      const Tensor other = aligned.row_slice(m * kHeadDim, (m + 1) * kHeadDim);
      EXPECT_LE(testing::relative_error(other, first), 1e-12);
      EXPECT_GT(testing::relative_error(members.row_slice(m * kHeadDim, (m + 1) * kHeadDim),
                                        members.row_slice(0, kHeadDim)),
                0.1);
    }
  }
}

TEST(Medoid, IsTheMemberInTheMiddle) {
  // Of the first columns 0, 10 and 4 the last has the least sum of distances; of the second ones 0,
  // 1 and 7 that is the middle one.
  Tensor members = Tensor::empty({3, 2}, DType::kF64);
  const double columns[] = {0, 0, 10, 1, 4, 7};
  std::copy(std::begin(columns), std::end(columns), members.data<double>());
  Tensor first = Tensor::zeros({2, 2}, DType::kF64), second = first.clone();
  first.data<double>()[0] = 1;
  second.data<double>()[3] = 1;
  EXPECT_EQ(medoid(inner_products(members, first), 3), 2);
  EXPECT_EQ(medoid(inner_products(members, second), 3), 1);
  EXPECT_EQ(medoid(inner_products(testing::ones({3, 2}), {}), 3), 0) << "the first of equals";
}

}  // namespace
}  // namespace polyhead
