#include "framework/tensor.h"

#include <gtest/gtest.h>

#include "tests/support/compare.h"

namespace polyhead {
namespace {

TEST(Tensor, SlicesShareStorage) {
  Tensor x = Tensor::zeros({3, 4}, DType::kF64);
  Tensor middle = x.column_slice(1, 3);
  middle.row_slice(2, 3).data<double>()[1] = 7;
  EXPECT_EQ(testing::at(x, 2, 2), 7);
  EXPECT_FALSE(middle.is_contiguous());
  EXPECT_EQ(middle.clone().row_stride(), 2);
}

TEST(Tensor, JoinsNeighbours) {
  Tensor flat = testing::random_tensor({30}, DType::kF32, "flat");
  Tensor first = flat.row_slice(0, 12).reshaped({4, 3});
  Tensor joined = first.extended_rows(10);
  EXPECT_EQ(joined.data<float>()[29], flat.data<float>()[29]);
  EXPECT_THROW(first.extended_rows(1000), std::logic_error);
}

TEST(Tensor, WrongUseIsCaught) {
  Tensor x = Tensor::zeros({2, 3}, DType::kF32);
  EXPECT_THROW(x.data<double>(), std::logic_error);
  EXPECT_THROW(x.row_slice(1, 3), std::logic_error);
  EXPECT_THROW(x.reshaped({5}), std::logic_error);
  EXPECT_THROW(x.column_slice(0, 2).reshaped({4}), std::logic_error);
}

TEST(Buffer, PoolServesARepeatedStepWithoutTheSystem) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "under AddressSanitizer every request goes to the system";
#endif
  const auto step = [] {
    Tensor a = Tensor::empty({1000, 100}, DType::kF32);
    Tensor b = Tensor::empty({77}, DType::kF64);
    return a.raw();
  };
  const void* first = step();
  const std::int64_t asked = memory_statistics(Device::kCpu).system_allocations;
  EXPECT_EQ(step(), first);
  EXPECT_EQ(memory_statistics(Device::kCpu).system_allocations, asked);
}

TEST(Buffer, ScratchOfRecordedWorkStaysWhereItIs) {
  const auto reserved = [] { return memory_statistics(Device::kCpu).reserved; };
  const Shape shape = {1234, 321};  // a size that nobody else asks for
  release_unused_memory(Device::kCpu);
  const std::size_t before = reserved();
  const void* address = nullptr;
  {
    ScratchBlocks scratch(Device::kCpu);
    EXPECT_THROW(ScratchBlocks{Device::kCpu}, std::logic_error);
    const void* const first = Tensor::empty(shape, DType::kF32).raw();
    scratch.close();
    release_unused_memory(Device::kCpu);
    EXPECT_GT(reserved(), before);
    EXPECT_TRUE(scratch.at_rest());
    const Tensor again = Tensor::empty(shape, DType::kF32);
    EXPECT_EQ(again.raw(), first);
    EXPECT_FALSE(scratch.at_rest());
    const Tensor other = Tensor::empty(shape, DType::kF32);
    address = other.raw();
    EXPECT_NE(address, first);
  }
  release_unused_memory(Device::kCpu);
  EXPECT_EQ(reserved(), before);
}

}  // namespace
}  // namespace polyhead
