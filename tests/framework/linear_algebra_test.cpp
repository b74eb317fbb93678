#include "framework/linear_algebra.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/compare.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ops::Transpose;
using testing::at;
using testing::error_of;
using ::testing::HasSubstr;
using testing::random_tensor;
using testing::relative_error;

constexpr double kTolerance = 1e-13;

Tensor product(const Tensor& a, Transpose transpose_a, const Tensor& b, Transpose transpose_b) {
  Tensor c = Tensor::empty({transpose_a == Transpose::kYes ? a.cols() : a.rows(),
                            transpose_b == Transpose::kYes ? b.rows() : b.cols()},
                           DType::kF64);
  ops::matmul(a, transpose_a, b, transpose_b, ops::Accumulate::kNo, c);
  return c;
}

Tensor matrix(std::int64_t rows, std::int64_t columns, std::string_view name) {
  return random_tensor({rows, columns}, DType::kF64, name);
}

Tensor diagonal(const Tensor& values) {
  Tensor d = Tensor::zeros({values.numel(), values.numel()}, DType::kF64);
  for (std::int64_t i = 0; i < values.numel(); ++i) {
    d.data<double>()[i * values.numel() + i] = values.data<double>()[i];
  }
  return d;
}

Tensor identity(std::int64_t size) {
  return diagonal(testing::ones({size}));
}

Tensor positive_definite(std::int64_t size) {
  const Tensor root = matrix(size, size + 3, "root");
  return product(root, Transpose::kNo, root, Transpose::kYes);
}

void expect_decomposes(const Tensor& a) {
  const SingularValueDecomposition svd = singular_value_decomposition(a, "a");
  const std::int64_t rank = std::min(a.rows(), a.cols());
  EXPECT_LE(relative_error(product(svd.u, Transpose::kYes, svd.u, Transpose::kNo), identity(rank)),
            kTolerance);
  EXPECT_LE(
      relative_error(product(svd.vt, Transpose::kNo, svd.vt, Transpose::kYes), identity(rank)),
      kTolerance);
  const Tensor scaled = product(svd.u, Transpose::kNo, diagonal(svd.values), Transpose::kNo);
  EXPECT_LE(relative_error(product(scaled, Transpose::kNo, svd.vt, Transpose::kNo), a), kTolerance)
      << a.shape().to_string();
  for (std::int64_t i = 1; i < rank; ++i) {
    EXPECT_GE(svd.values.data<double>()[i - 1], svd.values.data<double>()[i]);
  }
  EXPECT_GE(svd.values.data<double>()[rank - 1], 0);
}

TEST(LinearAlgebra, SingularValuesOfAnyShape) {
  for (const auto& [rows, columns] :
       {std::pair<std::int64_t, std::int64_t>{7, 13}, {13, 7}, {5, 5}, {1, 9}, {9, 1}, {37, 21}}) {
    expect_decomposes(matrix(rows, columns, "a"));
  }
}

TEST(LinearAlgebra, SingularValuesOfRankDeficientMatrices) {
  const Tensor left = matrix(11, 3, "left"), right = matrix(3, 17, "right");
  const Tensor a = product(left, Transpose::kNo, right, Transpose::kNo);
  expect_decomposes(a);
  const Tensor values = singular_value_decomposition(a, "a").values;
  EXPECT_GT(values.data<double>()[2], 0.1);
  EXPECT_LE(values.data<double>()[3], kTolerance * values.data<double>()[0]);
  const SingularValueDecomposition nothing =
      singular_value_decomposition(Tensor::zeros({4, 3}, DType::kF64), "zero");
  EXPECT_EQ(testing::max_abs(nothing.values), 0);
}

TEST(LinearAlgebra, ArgumentsMayBeStridedAndStayAsTheyAre) {
  const Tensor wide = matrix(6, 15, "wide");
  const Tensor before = wide.clone();
  const Tensor slice = wide.column_slice(4, 11);
  expect_decomposes(slice);
  EXPECT_TRUE(testing::bitwise_equal(wide, before));
}

TEST(LinearAlgebra, EigenvectorsAreRowsInAscendingOrder) {
  const Tensor root = matrix(9, 9, "root");
  Tensor a = positive_definite(9);
  const Tensor shift = identity(9);
  for (std::int64_t i = 0; i < 81; ++i) a.data<double>()[i] -= 5 * shift.data<double>()[i];
  Tensor lower = a.clone();  // what is above the diagonal is not read
  for (std::int64_t row = 0; row < 9; ++row) {
    for (std::int64_t col = row + 1; col < 9; ++col) lower.data<double>()[row * 9 + col] = 77;
  }
  const SymmetricEigendecomposition eigen = symmetric_eigendecomposition(lower, "a");
  const Tensor scaled =
      product(diagonal(eigen.values), Transpose::kNo, eigen.vectors, Transpose::kNo);
  EXPECT_LE(relative_error(product(eigen.vectors, Transpose::kYes, scaled, Transpose::kNo), a),
            kTolerance);
  EXPECT_LT(eigen.values.data<double>()[0], 0);
  for (int i = 1; i < 9; ++i) {
    EXPECT_LE(eigen.values.data<double>()[i - 1], eigen.values.data<double>()[i]);
  }
}

TEST(LinearAlgebra, CholeskyIsTheLowerFactor) {
  const Tensor a = positive_definite(11);
  const Tensor lower = cholesky(a, "covariance");
  EXPECT_LE(relative_error(product(lower, Transpose::kNo, lower, Transpose::kYes), a), kTolerance);
  for (std::int64_t row = 0; row < 11; ++row) {
    for (std::int64_t col = row + 1; col < 11; ++col) EXPECT_EQ(at(lower, row, col), 0);
  }
  Tensor indefinite = identity(4);
  indefinite.data<double>()[2 * 4 + 2] = -1;
  EXPECT_THAT(error_of([&] { cholesky(indefinite, "covariance"); }),
              HasSubstr("covariance: is not positive definite (its leading minor of order 3"));
}

TEST(LinearAlgebra, TriangularSystemsAreSolved) {
  const Tensor lower = cholesky(positive_definite(8), "a");
  const Tensor x = matrix(8, 3, "x");
  Tensor noisy = lower.clone();
  noisy.data<double>()[5] = 77;  // above the diagonal: not read
  for (const Transpose transpose : {Transpose::kNo, Transpose::kYes}) {
    const Tensor b = product(lower, transpose, x, Transpose::kNo);
    EXPECT_LE(relative_error(solve_lower_triangular(noisy, transpose, b, "a"), x), 1e-11);
  }
  EXPECT_THAT(error_of([&] {
                solve_lower_triangular(Tensor::zeros({8, 8}, DType::kF64), Transpose::kNo, x, "l");
              }),
              HasSubstr("l: is singular (zero 0 on its diagonal)"));
}

TEST(LinearAlgebra, NumbersThatAreNotFiniteAreNamed) {
  Tensor a = matrix(3, 3, "a");
  a.data<double>()[4] = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(error_of([&] { singular_value_decomposition(a, "layer 3's values"); }),
              HasSubstr("layer 3's values: holds a number that is not finite"));
}

}  // namespace
}  // namespace polyhead
