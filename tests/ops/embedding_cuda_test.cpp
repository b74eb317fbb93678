#include <gtest/gtest.h>

#include "framework/ops/embedding.h"
#include "tests/support/cuda_operands.h"

namespace polyhead::ops {
namespace {

using testing::Operand;
using testing::Place;
using testing::to_host;

constexpr DType kDTypes[] = {DType::kF32, DType::kBf16};
constexpr std::int64_t kFirst = 10, kValid = 97, kRows = 104;

Tensor ids_of(std::int64_t count, const std::function<std::int64_t(std::int64_t)>& id) {
  Tensor ids = Tensor::empty({count}, DType::kI32);
  for (std::int64_t n = 0; n < count; ++n) {
    ids.data<std::int32_t>()[n] = static_cast<std::int32_t>(id(n));
  }
  return ids;
}

// Inside, on both borders of the slice, outside, in the padding rows, rare ones and frequent ones.
Tensor some_ids(std::int64_t count) {
  return ids_of(count, [](std::int64_t n) -> std::int64_t {
    const std::int64_t draw = n * 7919 % 211;
    if (draw < 60) return kFirst + 41;
    if (draw < 80) return kFirst;
    if (draw < 85) return kFirst + kValid - 1;
    if (draw < 88) return kFirst + kValid;
    if (draw < 90) return 1000000000;
    return draw - 88;
  });
}

TEST(EmbeddingCuda, PicksRowsOfItsSlice) {
  for (const DType dtype : kDTypes) {
    for (const Place& place : testing::kPlaces) {
      SCOPED_TRACE(fmt::format("{}: {} x {} behind {} columns", name_of(dtype), place.rows,
                               place.columns, place.placement.before));
      const Tensor ids = some_ids(place.rows);
      const Operand table = Operand::random({kRows, place.columns, place.placement}, dtype, "t");
      for (const double factor : {1.0, 3.0}) {
        Operand y = Operand::unwritten(place, dtype);
        embedding_forward(ids.to(Device::kCuda), table.device, kFirst, kValid, factor, y.device);
        embedding_forward(ids, table.host, kFirst, kValid, factor, y.host);
        y.expect_close(y.host, factor == 1 ? 0 : testing::rounding(dtype));
      }
    }
  }
}

// The device's gradient: twice the same bits, and equal to the CPU's. In f32, whatever dy is: the
// sums differ by their order alone.
void expect_gradient(const Tensor& ids, std::int64_t columns, DType dtype,
                     testing::Placement placement) {
  const Place place{ids.numel(), columns, placement};
  SCOPED_TRACE(fmt::format("{}: {} x {} behind {} columns", name_of(dtype), place.rows, columns,
                           placement.before));
  const Operand dy = Operand::random(place, dtype, "dy");
  Operand dtable = Operand::random({kRows, columns, placement}, DType::kF32, "begun");
  const Tensor begun = to_host(dtable.device);
  Tensor again = dtable.device.clone();
  const Tensor device_ids = ids.to(Device::kCuda);
  embedding_backward(dy.device, device_ids, kFirst, kValid, 1.5, dtable.device);
  embedding_backward(dy.host, ids, kFirst, kValid, 1.5, dtable.host);
  dtable.expect_close(dtable.host, 2e-6);
  embedding_backward(dy.device, device_ids, kFirst, kValid, 1.5, again);
  EXPECT_TRUE(testing::bitwise_equal(to_host(again), to_host(dtable.device)));
  EXPECT_TRUE(testing::bitwise_equal(to_host(dtable.device).row_slice(kValid, kRows),
                                     begun.row_slice(kValid, kRows)));
}

TEST(EmbeddingCuda, GradientsAccumulateAndSpareThePadding) {
  for (const DType dtype : kDTypes) {
    for (const Place& place : testing::kPlaces) {
      expect_gradient(some_ids(place.rows), place.columns, dtype, place.placement);
    }
    expect_gradient(some_ids(20011), 1028, dtype, testing::kAlone);
  }
}

// Runs of one id that end before, at and behind the borders of tiles of 32 tokens.
TEST(EmbeddingCuda, RunsOfAnyLengthAreComplete) {
  for (const std::int64_t first : {1, 31, 32, 33, 64, 100}) {
    for (const std::int64_t second : {1, 31, 32, 33, 64, 1000}) {
      for (const std::int64_t outside : {0, 5}) {
        const Tensor ids = ids_of(first + second + outside, [&](std::int64_t n) -> std::int64_t {
          return n < first ? kFirst + 2 : n < first + second ? kFirst + 3 : 0;
        });
        expect_gradient(ids, 12, DType::kF32, testing::kAlone);
      }
    }
  }
}

TEST(EmbeddingCuda, OneIdAndNone) {
  for (const DType dtype : kDTypes) {
    const auto only = [](std::int64_t id) { return [id](std::int64_t) { return id; }; };
    expect_gradient(ids_of(10000, only(kFirst + 5)), 256, dtype, testing::kAlone);
    expect_gradient(ids_of(100, only(kFirst - 1)), 256, dtype, testing::kAlone);
  }
  Tensor none = Tensor::zeros({0, 8}, DType::kF32, Device::kCuda);
  Tensor table = Tensor::zeros({4, 8}, DType::kF32, Device::kCuda);
  const Tensor ids = Tensor::zeros({0}, DType::kI32, Device::kCuda);
  embedding_forward(ids, table, 0, 4, 1.0, none);
  embedding_backward(none, ids, 0, 4, 1.0, table);
  EXPECT_EQ(testing::max_abs(to_host(table)), 0);
}

// Tokens of one row are added in their order: large summands that cancel leave the small one.
TEST(EmbeddingCuda, TokensAreAddedInOrder) {
  const Tensor ids = ids_of(7, [](std::int64_t n) { return n % 2; });
  Tensor dy = Tensor::zeros({7, 4}, DType::kF32);
  const float of_first_row[] = {1e8f, -1e8f, 1, 0};  // 0 unless the 1 comes behind both
  for (std::int64_t i = 0; i < 4; ++i) {
    std::fill_n(dy.data<float>() + 2 * i * 4, 4, of_first_row[i]);
  }
  Tensor dtable = Tensor::zeros({2, 4}, DType::kF32, Device::kCuda);
  embedding_backward(dy.to(Device::kCuda), ids.to(Device::kCuda), 0, 2, 1.0, dtable);
  EXPECT_EQ(testing::at(to_host(dtable), 0, 0), 1);
}

}  // namespace
}  // namespace polyhead::ops
