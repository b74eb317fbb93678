#include <gtest/gtest.h>

#include <cmath>

#include "framework/ops/rope.h"
#include "tests/support/cuda_operands.h"

namespace polyhead::ops {
namespace {

using testing::Operand;
using testing::to_host;

std::vector<double> frequencies(std::int64_t rotary_dim) {
  std::vector<double> result;
  for (std::int64_t j = 0; j < rotary_dim / 2; ++j) {
    result.push_back(
        std::pow(1e4, -2.0 * static_cast<double>(j) / static_cast<double>(rotary_dim)));
  }
  return result;
}

// Heads begin at `first` in a row and lie `stride` apart; what is not rotated stays.
struct Case {
  std::int64_t rows, length, heads, head_dim, rotary_dim, first, stride;
};
constexpr Case kCases[] = {
    {10, 5, 3, 9, 6, 4, 11},           // odd
    {14, 7, 2, 64, 64, 0, 64},         // packs, whole heads
    {21, 7, 5, 128, 64, 8, 128},       // partial
    {9, 9, 3, 64, 64, 3, 64},          // heads off the borders of packs
    {6, 3, 4, 24, 24, 0, 24},          // half a head is no whole number of packs of bf16
    {513, 171, 12, 128, 128, 0, 192},  // many blocks
    {300, 300, 1, 64, 64, 512, 64},    // one head behind others
};

HeadView heads_of_case(const Tensor& packed, const Case& c) {
  return {packed.column_slice(c.first, packed.cols()), c.heads, c.head_dim, c.stride};
}

RopeTable on_cuda(const RopeTable& table) {
  return {table.cos.to(Device::kCuda), table.sin.to(Device::kCuda)};
}

TEST(RopeCuda, TurnsAsTheCpu) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const Case& c : kCases) {
      for (const Rotation rotation : {Rotation::kForward, Rotation::kBackward}) {
        SCOPED_TRACE(fmt::format("{}: {} heads of {}, {} apart, rotating {}", name_of(dtype),
                                 c.heads, c.head_dim, c.stride, c.rotary_dim));
        const auto table = [&](DType table_dtype) {
          return make_rope_table(frequencies(c.rotary_dim), 1.25, c.length + 2, table_dtype);
        };
        const std::int64_t columns = c.first + (c.heads - 1) * c.stride + c.head_dim + 8;
        Operand x = Operand::random({c.rows, columns, testing::kAlone}, dtype, "x");
        const Tensor before = to_host(x.device);
        HeadView on_device = heads_of_case(x.device, c), on_host = heads_of_case(x.host, c);
        rope(on_cuda(table(DType::kF32)), c.length, rotation, on_device);
        rope(table(DType::kF64), c.length, rotation, on_host);
        x.expect_close(x.host, testing::rounding(dtype));

        const Tensor after = to_host(x.device);
        for (std::int64_t row = 0; row < c.rows; ++row) {
          for (std::int64_t col = 0; col < columns; ++col) {
            const std::int64_t dim = (col - c.first) % c.stride;
            const bool rotated =
                col >= c.first && col < c.first + c.heads * c.stride && dim < c.rotary_dim;
            if (!rotated) {
              ASSERT_EQ(testing::at(after, row, col), testing::at(before, row, col));
            }
          }
        }
      }
    }
  }
}

TEST(RopeCuda, TurnsBack) {
  const RopeTable table = on_cuda(make_rope_table(frequencies(64), 1, 50, DType::kF32));
  Operand x = Operand::random({100, 8 * 64, testing::kAlone}, DType::kF32, "x");
  HeadView heads = heads_of(x.device, 8);
  rope(table, 50, Rotation::kForward, heads);
  EXPECT_GT(testing::relative_error(to_host(x.device), x.host), 0.1);
  rope(table, 50, Rotation::kBackward, heads);
  x.expect_close(x.host, 1e-6);
}

}  // namespace
}  // namespace polyhead::ops
