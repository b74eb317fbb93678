#include <gtest/gtest.h>

#include <string>

#include "framework/cuda/gemm_choices.h"
#include "framework/ops/matmul.h"
#include "tests/support/cuda.h"
#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

using cuda::GemmChoices;
using testing::to_cuda;
using testing::to_host;

// bf16 results are off by half a unit of their own last place, 2^-9; where they are added to, the
// library rounds the product and then the sum (measured: 5.2e-3). f32 results by the order of the
// sum alone. TF32 would be off by 5e-4.
struct Types {
  DType input, output;
  double tolerance;
};
constexpr Types kTypes[] = {{DType::kBf16, DType::kBf16, 8e-3},
                            {DType::kBf16, DType::kF32, 1e-5},
                            {DType::kF32, DType::kF32, 1e-5}};

// Where a matrix lies: alone, or as columns of a wider one.
struct Placement {
  std::int64_t before, after;  // other columns, NaN
};
constexpr Placement kAlone{0, 0}, kAligned{16, 32}, kUnaligned{3, 4};

struct Product {
  std::int64_t rows, columns, depth;
  Transpose transpose_a, transpose_b;
  Accumulate accumulate;
  Types types;
  Placement placement;
};

// A matrix in f64 on the host, rounded to `dtype`, and the same on the device.
struct Matrix {
  Tensor host, device;
};

Matrix place(const Tensor& values, DType dtype, Placement placement) {
  Matrix matrix;
  matrix.host = dtype == DType::kBf16 ? testing::rounded_to_bf16(values) : values;
  const std::int64_t end = placement.before + values.cols();
  Tensor wide = testing::poisoned({values.rows(), end + placement.after}, DType::kF64);
  wide.column_slice(placement.before, end).copy_from(matrix.host);
  matrix.device = to_cuda(wide, dtype).column_slice(placement.before, end);
  return matrix;
}

Matrix operand(std::int64_t rows, std::int64_t columns, Transpose transpose, const Product& product,
               std::string_view name) {
  if (transpose == Transpose::kYes) std::swap(rows, columns);
  return place(testing::random_tensor({rows, columns}, DType::kF64, name), product.types.input,
               product.placement);
}

Matrix result(const Product& product) {
  const Shape shape{product.rows, product.columns};
  return place(product.accumulate == Accumulate::kYes
                   ? testing::random_tensor(shape, DType::kF64, "c")
                   : testing::poisoned(shape, DType::kF64),
               product.types.output, product.placement);
}

// The device's result; twice, bitwise equal, and right to the types' tolerance.
Tensor expect_product(const Product& product) {
  SCOPED_TRACE(fmt::format(
      "({} x {}) x {}, {} -> {}, transposed {} {}, accumulate {}, behind {}", product.rows,
      product.columns, product.depth, name_of(product.types.input), name_of(product.types.output),
      product.transpose_a == Transpose::kYes, product.transpose_b == Transpose::kYes,
      product.accumulate == Accumulate::kYes, product.placement.before));
  const Matrix a = operand(product.rows, product.depth, product.transpose_a, product, "a");
  const Matrix b = operand(product.depth, product.columns, product.transpose_b, product, "b");
  Matrix first = result(product), second = result(product);
  for (Matrix* const c : {&first, &second}) {
    matmul(a.device, product.transpose_a, b.device, product.transpose_b, product.accumulate,
           c->device);
  }
  const Tensor got = to_host(first.device);
  EXPECT_TRUE(testing::bitwise_equal(got, to_host(second.device)));

  Tensor expected = first.host;
  matmul(a.host, product.transpose_a, b.host, product.transpose_b, product.accumulate, expected);
  EXPECT_LE(testing::relative_error(got, expected), product.types.tolerance);
  return got;
}

void expect_all_products(std::int64_t rows, std::int64_t columns, std::int64_t depth,
                         Placement placement) {
  for (const Types& types : kTypes) {
    for (const Transpose transpose_a : {Transpose::kNo, Transpose::kYes}) {
      for (const Transpose transpose_b : {Transpose::kNo, Transpose::kYes}) {
        for (const Accumulate accumulate : {Accumulate::kNo, Accumulate::kYes}) {
          expect_product(
              {rows, columns, depth, transpose_a, transpose_b, accumulate, types, placement});
        }
      }
    }
  }
}

TEST(MatmulCuda, EqualsTheCpuOnOddSizes) {
  for (const auto& [rows, columns, depth] :
       {std::array{37, 53, 29}, {1, 71, 19}, {43, 1, 67}, {1, 1, 5}, {301, 233, 17}}) {
    expect_all_products(rows, columns, depth, kAlone);
    expect_all_products(rows, columns, depth, kUnaligned);
  }
}

TEST(MatmulCuda, EqualsTheCpuOnAlignedSizes) {
  expect_all_products(64, 96, 160, kAlone);
  expect_all_products(64, 96, 160, kAligned);
}

TEST(MatmulCuda, AddsToAnotherMatrixAndLeavesIt) {
  for (const Types& types : {kTypes[0], kTypes[2]}) {
    for (const auto& [rows, columns, depth] :
         {std::array{64, 96, 160}, {37, 53, 29}, {384, 640, 512}, {5, 7, 0}}) {
      for (const Placement& placement : {kAlone, kAligned, kUnaligned}) {
        const Product product{rows,           columns,         depth,
                              Transpose::kNo, Transpose::kYes, Accumulate::kYes,
                              types,          placement};
        const Matrix x = operand(rows, depth, Transpose::kNo, product, "x");
        const Matrix weight = operand(depth, columns, Transpose::kYes, product, "weight");
        const Matrix addend = result(product);
        const Tensor untouched = to_host(addend.device);
        Matrix y = place(testing::poisoned({rows, columns}, DType::kF64), types.output, placement);
        matmul_weight_onto(addend.device, x.device, weight.device, y.device);
        Tensor expected = addend.host.clone();
        matmul(x.host, Transpose::kNo, weight.host, Transpose::kYes, Accumulate::kYes, expected);
        EXPECT_LE(testing::relative_error(to_host(y.device), expected), types.tolerance);
        EXPECT_TRUE(testing::bitwise_equal(to_host(addend.device), untouched));
      }
    }
  }
}

// Large enough that algorithms are measured at the first product: c must not notice.
TEST(MatmulCuda, EqualsTheCpuWhereAlgorithmsAreMeasured) {
  expect_all_products(384, 640, 512, kAligned);
  expect_all_products(385, 321, 257, kUnaligned);
}

// Few outputs and a long sum: here the library cuts the sum into parts.
TEST(MatmulCuda, SumsLongProductsInAFixedOrder) {
  expect_all_products(128, 64, 16384, kAlone);
}

TEST(MatmulCuda, WithNothingToSumWritesZerosOrKeepsTheResult) {
  expect_all_products(5, 7, 0, kAlone);
  expect_all_products(5, 7, 0, kUnaligned);
}

TEST(MatmulCuda, HasNoRowsOrColumnsToWrite) {
  for (const auto& [rows, columns] : {std::array{0, 7}, {5, 0}}) {
    const Tensor a = Tensor::empty({rows, 3}, DType::kBf16, Device::kCuda);
    const Tensor b = Tensor::empty({3, columns}, DType::kBf16, Device::kCuda);
    Tensor c = Tensor::empty({rows, columns}, DType::kBf16, Device::kCuda);
    EXPECT_NO_THROW(matmul(a, Transpose::kNo, b, Transpose::kNo, Accumulate::kNo, c));
  }
}

// 70 x 49 x 8 is written without measuring, 384 x 640 x 512 with.
TEST(MatmulCuda, WritesNothingOutsideOfAColumnSlice) {
  for (const auto& [rows, columns, depth] : {std::array{70, 49, 8}, {384, 640, 512}}) {
    const Tensor a = to_cuda(testing::random_tensor({rows, depth}, DType::kF64, "a"), DType::kF32);
    const Tensor b =
        to_cuda(testing::random_tensor({depth, columns}, DType::kF64, "b"), DType::kF32);
    const Tensor wide = to_cuda(testing::filled({rows, columns + 40}, DType::kF64, 7), DType::kF32);
    Tensor c = wide.column_slice(11, 11 + columns);
    matmul(a, Transpose::kNo, b, Transpose::kNo, Accumulate::kYes, c);
    const Tensor seen = to_host(wide);
    for (std::int64_t row = 0; row < seen.rows(); ++row) {
      for (std::int64_t column = 0; column < seen.cols(); ++column) {
        if (column < 11 || column >= 11 + columns) {
          ASSERT_EQ(testing::at(seen, row, column), 7);
        }
      }
    }
  }
}

// Two products of one kind that want different tiles, and their names in the choices.
constexpr Product kSquare{1024,      1024,  1024, Transpose::kNo, Transpose::kYes, Accumulate::kNo,
                          kTypes[0], kAlone};
constexpr Product kFlat{64,        4096,  1024, Transpose::kNo, Transpose::kYes, Accumulate::kNo,
                        kTypes[0], kAlone};
constexpr const char* kSquareName = "bf16 NT 1024x1024x1024";
constexpr const char* kFlatName = "bf16 NT 64x4096x1024";
constexpr std::size_t kHexDigits = 128;

std::size_t place_of_hex(const std::string& choices, const std::string& problem) {
  const std::string key = fmt::format("\"{}\": \"", problem);
  const std::size_t place = choices.find(key);
  EXPECT_NE(place, std::string::npos) << problem << " is not among the choices:\n" << choices;
  return place + key.size();
}
std::string hex_of(const std::string& choices, const std::string& problem) {
  return choices.substr(place_of_hex(choices, problem), kHexDigits);
}
std::string with_hex(std::string choices, const std::string& problem, const std::string& hex) {
  return choices.replace(place_of_hex(choices, problem), kHexDigits, hex);
}
std::string replaced(std::string text, const std::string& from, const std::string& to) {
  return text.replace(text.find(from), from.size(), to);
}

// Of contiguous tensors.
cuda::GemmProblem problem_of(const Product& product) {
  const bool a_turned = product.transpose_a == Transpose::kYes;
  const bool b_turned = product.transpose_b == Transpose::kYes;
  return {.input = product.types.input,
          .output = product.types.output,
          .transpose_a = a_turned,
          .transpose_b = b_turned,
          .accumulate = product.accumulate == Accumulate::kYes,
          .rows = product.rows,
          .columns = product.columns,
          .depth = product.depth,
          .stride_a = a_turned ? product.rows : product.depth,
          .stride_b = b_turned ? product.depth : product.columns,
          .stride_c = product.columns,
          .alignment_a = 16,
          .alignment_b = 16,
          .alignment_c = 16};
}

class GemmChoicesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    expect_product(kSquare);
    expect_product(kFlat);
    before_ = GemmChoices::to_json();
  }
  void TearDown() override {
    GemmChoices::set_measuring(true);
    EXPECT_TRUE(GemmChoices::adopt(before_, "the choices before the test"));
  }

  std::string before_;
};

TEST_F(GemmChoicesTest, AreAdoptedAndFollowed) {
  const std::string flat_hex = hex_of(before_, kFlatName);
  ASSERT_NE(hex_of(before_, kSquareName), flat_hex) << "choose other shapes for this test";
  const std::string other = with_hex(before_, kSquareName, flat_hex);
  ASSERT_TRUE(GemmChoices::adopt(other, "test"));
  expect_product(kSquare);
  EXPECT_EQ(GemmChoices::to_json(), other);
  ASSERT_TRUE(GemmChoices::adopt(before_, "test"));
  EXPECT_EQ(GemmChoices::to_json(), before_);
}

TEST_F(GemmChoicesTest, GiveTheSameBitsInALaterRun) {
  const Tensor measured = expect_product(kSquare);
  GemmChoices::set_measuring(false);
  ASSERT_TRUE(GemmChoices::adopt(before_, "test"));
  EXPECT_TRUE(testing::bitwise_equal(measured, expect_product(kSquare)));
}

TEST_F(GemmChoicesTest, OfAnotherVersionOrDeviceAreIgnored) {
  const std::string other = with_hex(before_, kSquareName, hex_of(before_, kFlatName));
  EXPECT_FALSE(GemmChoices::adopt(replaced(other, "cuBLASLt ", "cuBLASLt 9"), "test"));
  EXPECT_FALSE(GemmChoices::adopt(replaced(other, "\"system\": \"", "\"system\": \"X"), "test"));
  EXPECT_EQ(GemmChoices::to_json(), before_);
}

TEST_F(GemmChoicesTest, ThatTheLibraryRefusesAreMadeAnew) {
  const std::string nonsense(kHexDigits, 'f');
  ASSERT_TRUE(GemmChoices::adopt(with_hex(before_, kSquareName, nonsense), "test"));
  expect_product(kSquare);
  EXPECT_NE(hex_of(GemmChoices::to_json(), kSquareName), nonsense);
}

TEST_F(GemmChoicesTest, ThatAreDamagedAreRefused) {
  EXPECT_THROW(GemmChoices::adopt("{}", "test"), Error);
  EXPECT_THROW(GemmChoices::adopt(before_.substr(0, before_.size() / 2), "test"), Error);
  const std::string digit(kHexDigits - 1, '0');
  EXPECT_THROW(GemmChoices::adopt(with_hex(before_, kSquareName, digit + "g"), "test"), Error);
  EXPECT_THROW(GemmChoices::adopt(with_hex(before_, kSquareName, digit), "test"), Error);
  EXPECT_EQ(GemmChoices::to_json(), before_);
}

TEST_F(GemmChoicesTest, WithoutMeasuringAreTheLibrarysFirst) {
  GemmChoices::set_measuring(false);
  Product product = kSquare;
  product.rows += 32;
  expect_product(product);
  cuda::GemmPlan plan(problem_of(product));
  const cublasLtMatmulAlgo_t algorithm = plan.candidates().front();
  std::string first;
  for (const std::uint64_t word : algorithm.data) first += fmt::format("{:016x}", word);
  EXPECT_EQ(hex_of(GemmChoices::to_json(), plan.problem().to_string()), first);
}

// Whichever the measuring prefers: all candidates may be chosen.
TEST(GemmPlan, CandidatesGiveTheSameBitsEveryTime) {
  for (const Types& types : kTypes) {
    for (const auto& [rows, columns, depth] :
         {std::array{128, 64, 16384}, {512, 768, 4096}, {1024, 2304, 768}}) {
      const Product product{rows,           columns,          depth, Transpose::kYes,
                            Transpose::kNo, Accumulate::kYes, types, kAlone};
      const Matrix a = operand(rows, depth, Transpose::kYes, product, "a");
      const Matrix b = operand(depth, columns, Transpose::kNo, product, "b");
      const Matrix c = result(product);
      cuda::GemmPlan plan(problem_of(product));
      for (const cublasLtMatmulAlgo_t& algorithm : plan.candidates()) {
        std::uint32_t scheme = 0;
        ASSERT_EQ(
            cublasLtMatmulAlgoConfigGetAttribute(&algorithm, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME,
                                                 &scheme, sizeof scheme, nullptr),
            CUBLAS_STATUS_SUCCESS);
        EXPECT_TRUE(scheme == CUBLASLT_REDUCTION_SCHEME_NONE ||
                    scheme == CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE)
            << scheme;
        plan.set_algorithm(algorithm);
        Tensor first = c.device.clone(), second = c.device.clone();
        for (Tensor* const sum : {&first, &second}) {
          plan.run(a.device.raw(), b.device.raw(), sum->raw(), sum->raw());
        }
        EXPECT_TRUE(testing::bitwise_equal(to_host(first), to_host(second)))
            << plan.problem().to_string();
      }
    }
  }
}

}  // namespace
}  // namespace polyhead::ops
