#include "framework/ops/matmul.h"

#include <gtest/gtest.h>

#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

using testing::at;

constexpr double kTolerance[] = {1e-14, 1e-6};  // f64, f32

double element(const Tensor& x, Transpose transpose, std::int64_t row, std::int64_t column) {
  return transpose == Transpose::kYes ? at(x, column, row) : at(x, row, column);
}

// op(a) op(b) + c, by definition.
Tensor expected_product(const Tensor& a, Transpose transpose_a, const Tensor& b,
                        Transpose transpose_b, const Tensor& c) {
  const std::int64_t depth = transpose_a == Transpose::kYes ? a.rows() : a.cols();
  return testing::reference(c, [&](std::int64_t row, std::int64_t column) {
    double sum = at(c, row, column);
    for (std::int64_t k = 0; k < depth; ++k) {
      sum += element(a, transpose_a, row, k) * element(b, transpose_b, k, column);
    }
    return sum;
  });
}

struct Product {
  std::int64_t rows, columns, depth;
};

Tensor operand(std::int64_t rows, std::int64_t columns, Transpose transpose, DType dtype,
               std::string_view name) {
  return transpose == Transpose::kYes ? testing::strided_random(columns, rows, dtype, name)
                                      : testing::strided_random(rows, columns, dtype, name);
}

void expect_products(const Product& shape, DType dtype) {
  for (const Transpose transpose_a : {Transpose::kNo, Transpose::kYes}) {
    for (const Transpose transpose_b : {Transpose::kNo, Transpose::kYes}) {
      SCOPED_TRACE(fmt::format("({} x {}) x {}, {}, transposed {} {}", shape.rows, shape.columns,
                               shape.depth, name_of(dtype), transpose_a == Transpose::kYes,
                               transpose_b == Transpose::kYes));
      const Tensor a = operand(shape.rows, shape.depth, transpose_a, dtype, "a");
      const Tensor b = operand(shape.depth, shape.columns, transpose_b, dtype, "b");
      const double tolerance = kTolerance[static_cast<int>(dtype)];

      Tensor written = testing::strided_poisoned(shape.rows, shape.columns, dtype);
      const Tensor zero = testing::filled(written.shape(), dtype, 0);
      matmul(a, transpose_a, b, transpose_b, Accumulate::kNo, written);
      EXPECT_LE(
          testing::relative_error(written, expected_product(a, transpose_a, b, transpose_b, zero)),
          tolerance);

      Tensor sum = testing::strided_random(shape.rows, shape.columns, dtype, "c");
      const Tensor expected = expected_product(a, transpose_a, b, transpose_b, sum);
      matmul(a, transpose_a, b, transpose_b, Accumulate::kYes, sum);
      EXPECT_LE(testing::relative_error(sum, expected), tolerance);
    }
  }
}

TEST(Matmul, EqualsTheDefinition) {
  for (const DType dtype : {DType::kF64, DType::kF32}) {
    for (const Product& shape : {Product{37, 53, 29}, Product{1, 71, 19}, Product{43, 1, 67},
                                 Product{1, 1, 5}, Product{5, 7, 0}, Product{301, 233, 17}}) {
      expect_products(shape, dtype);
    }
  }
}

TEST(Matmul, WritesNothingOutsideOfAColumnSlice) {
  Tensor wide = testing::filled({70, 90}, DType::kF32, 7);
  Tensor c = wide.column_slice(11, 60);
  matmul(testing::random_tensor({70, 8}, DType::kF32, "a"), Transpose::kNo,
         testing::random_tensor({8, 49}, DType::kF32, "b"), Transpose::kNo, Accumulate::kNo, c);
  for (std::int64_t row = 0; row < wide.rows(); ++row) {
    for (std::int64_t column = 0; column < wide.cols(); ++column) {
      if (column < 11 || column >= 60) {
        ASSERT_EQ(at(wide, row, column), 7);
      }
    }
  }
}

TEST(Matmul, AddsToAnotherMatrixAndLeavesIt) {
  const Tensor x = testing::random_tensor({37, 29}, DType::kF32, "x");
  const Tensor weight = testing::random_tensor({53, 29}, DType::kF32, "weight");
  const Tensor addend = testing::random_tensor({37, 53}, DType::kF32, "addend");
  const Tensor untouched = addend.clone();
  for (const std::int64_t rows : {37, 1}) {
    Tensor y = testing::poisoned({rows, 53}, DType::kF32);
    matmul_weight_onto(addend.row_slice(0, rows), x.row_slice(0, rows), weight, y);
    Tensor expected = addend.row_slice(0, rows).clone();
    matmul(x.row_slice(0, rows), Transpose::kNo, weight, Transpose::kYes, Accumulate::kYes,
           expected);
    EXPECT_TRUE(testing::bitwise_equal(y, expected));
  }
  EXPECT_TRUE(testing::bitwise_equal(addend, untouched));
}

TEST(Matmul, BitsDoNotDependOnThreads) {
  const Tensor x = testing::random_tensor({1000, 130}, DType::kF32, "x");
  const Tensor weight = testing::random_tensor({1500, 130}, DType::kF32, "weight");
  const Tensor dy = testing::random_tensor({1000, 1500}, DType::kF32, "dy");
  testing::expect_same_with_any_threads([&] {
    Tensor y = Tensor::empty({1000, 1500}, DType::kF32);
    Tensor dx = Tensor::empty({1000, 130}, DType::kF32);
    Tensor dweight = testing::random_tensor({1500, 130}, DType::kF32, "dweight");
    Tensor row = Tensor::empty({1, 1500}, DType::kF32);
    matmul_weight(x, weight, y);
    matmul_weight(x.row_slice(0, 1), weight, row);
    matmul(dy, Transpose::kNo, weight, Transpose::kNo, Accumulate::kNo, dx);
    matmul(dy, Transpose::kYes, x, Transpose::kNo, Accumulate::kYes, dweight);
    return std::vector<Tensor>{y, dx, dweight, row};
  });
}

TEST(Matmul, RefusesWrongShapes) {
  const Tensor a = Tensor::zeros({3, 4}, DType::kF32), b = Tensor::zeros({5, 6}, DType::kF32);
  Tensor c = Tensor::zeros({3, 6}, DType::kF32);
  EXPECT_THROW(matmul(a, Transpose::kNo, b, Transpose::kNo, Accumulate::kNo, c), std::logic_error);
  const Tensor wide = Tensor::zeros({3, 9}, DType::kF32),
               weight = Tensor::zeros({6, 4}, DType::kF32);
  EXPECT_THROW(matmul_weight_onto(wide, a, weight, c), std::logic_error);
  EXPECT_THROW(matmul_weight_onto(wide.column_slice(0, 6), a, weight, c), std::logic_error);
  Tensor square = Tensor::zeros({4, 4}, DType::kF32);
  EXPECT_THROW(matmul(square, Transpose::kNo, square, Transpose::kNo, Accumulate::kNo, square),
               std::logic_error);
}

TEST(Blas, IsNamed) {
  const std::string description = blas_description();
  EXPECT_TRUE(description.starts_with("OpenBLAS ") || description.starts_with("BLIS "))
      << description;
}

}  // namespace
}  // namespace polyhead::ops
