#include "framework/ops/embedding.h"

#include <gtest/gtest.h>

#include "tests/support/gradcheck.h"
#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

using testing::at;

constexpr std::int64_t kFirst = 10, kValid = 7, kRows = 9, kWidth = 53;

// Inside, repeated, on both borders of [10, 17), outside, and in the padding rows.
Tensor some_ids() {
  return testing::int_tensor({12, 10, 16, 12, 9, 17, 18, 12, 0, 1000, 11, 16});
}

bool is_here(const Tensor& ids, std::int64_t token) {
  const std::int32_t id = ids.data<std::int32_t>()[token];
  return id >= kFirst && id < kFirst + kValid;
}

TEST(Embedding, PicksRowsOfItsSlice) {
  const Tensor ids = some_ids();
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    Tensor table = testing::poisoned({kRows, kWidth}, dtype);
    table.row_slice(0, kValid).copy_from(testing::random_tensor({kValid, kWidth}, dtype, "table"));
    Tensor y = testing::strided_poisoned(ids.numel(), kWidth, dtype);
    embedding_forward(ids, table, kFirst, kValid, 4.0, y);
    const Tensor expected = testing::reference(y, [&](std::int64_t token, std::int64_t column) {
      return is_here(ids, token) ? 4.0 * at(table, ids.data<std::int32_t>()[token] - kFirst, column)
                                 : 0.0;
    });
    EXPECT_EQ(testing::relative_error(y, expected), 0);
  }
}

TEST(Embedding, GradientsAccumulateAndSpareThePadding) {
  const Tensor ids = some_ids();
  const Tensor begun = testing::random_tensor({kRows, kWidth}, DType::kF64, "begun");
  const Tensor dy = testing::strided_random(ids.numel(), kWidth, DType::kF64, "dy");
  Tensor dtable = begun.clone();
  embedding_backward(dy, ids, kFirst, kValid, 1.5, dtable);
  const Tensor gradient = testing::reference(begun, [&](std::int64_t row, std::int64_t column) {
    return at(dtable, row, column) - at(begun, row, column);
  });
  EXPECT_EQ(testing::max_abs(gradient.row_slice(kValid, kRows)), 0);

  const Tensor table = testing::random_tensor({kRows, kWidth}, DType::kF64, "table");
  Tensor y = Tensor::empty({ids.numel(), kWidth}, DType::kF64);
  testing::GradientCheck check;
  check.add("table", table, gradient);
  check.expect_close([&] {
    embedding_forward(ids, table, kFirst, kValid, 1.5, y);
    return testing::weighted_sum(y, dy);
  });
}

TEST(Embedding, BitsDoNotDependOnThreads) {
  constexpr std::int64_t kTokens = 500;
  Tensor ids = Tensor::empty({kTokens}, DType::kI32);
  for (std::int64_t i = 0; i < kTokens; ++i) {
    ids.data<std::int32_t>()[i] = static_cast<std::int32_t>(i * i % 31);
  }
  const Tensor table = testing::random_tensor({31, kWidth}, DType::kF32, "table");
  const Tensor dy = testing::random_tensor({kTokens, kWidth}, DType::kF32, "dy");
  testing::expect_same_with_any_threads([&] {
    Tensor y = Tensor::empty({kTokens, kWidth}, DType::kF32), dtable = table.clone();
    embedding_forward(ids, table, 0, 31, 2.0, y);
    embedding_backward(dy, ids, 0, 31, 2.0, dtable);
    return std::vector<Tensor>{y, dtable};
  });
}

TEST(Embedding, RefusesWrongShapes) {
  const Tensor table = Tensor::zeros({4, 8}, DType::kF32);
  Tensor y = Tensor::zeros({3, 8}, DType::kF32);
  EXPECT_THROW(embedding_forward(testing::int_tensor({1, 2}), table, 0, 4, 1.0, y),
               std::logic_error);
  EXPECT_THROW(embedding_forward(testing::int_tensor({1, 2, 3}), table, 0, 5, 1.0, y),
               std::logic_error);
}

}  // namespace
}  // namespace polyhead::ops
