// The host memory of collectives that do not go from device to device.
#include "framework/comm/staging.h"

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "tests/support/compare.h"

namespace polyhead {
namespace {

Tensor on_device(std::int64_t elements) {
  return Tensor::zeros({elements}, DType::kF32, Device::kCuda);
}

TEST(Staging, OfDeviceTensorsIsPageLocked) {
  Staging staging;
  cudaPointerAttributes attributes;
  ASSERT_EQ(cudaPointerGetAttributes(&attributes, staging.place_of(on_device(1000))), cudaSuccess);
  EXPECT_EQ(attributes.type, cudaMemoryTypeHost);
}

TEST(Staging, IsKeptUntilATensorIsLarger) {
  Staging staging;
  void* const place = staging.place_of(on_device(1000));
  EXPECT_EQ(staging.place_of(on_device(10)), place);
  EXPECT_EQ(staging.place_of(on_device(1000)), place);
  const Tensor large = on_device(100000);
  void* const larger = staging.place_of(large);
  Staging::load(large, larger);
  EXPECT_EQ(static_cast<const float*>(larger)[99999], 0.0f);
  EXPECT_EQ(staging.place_of(on_device(1000)), larger);
}

TEST(Staging, MovesTensorsBothWays) {
  Staging staging;
  Tensor host = Tensor::empty({3, 67}, DType::kF32);
  for (std::int64_t i = 0; i < host.numel(); ++i) host.data<float>()[i] = static_cast<float>(i);
  const Tensor source = host.to(Device::kCuda);
  Tensor copy = Tensor::empty_like(source);
  void* const place = staging.place_of(source);
  Staging::load(source, place);
  static_cast<float*>(place)[5] = -1;
  Staging::store(place, copy);
  host.data<float>()[5] = -1;
  EXPECT_TRUE(testing::bitwise_equal(copy.to(Device::kCpu), host));
}

TEST(Staging, LeavesHostTensorsWhereTheyAre) {
  Staging staging;
  Tensor host = Tensor::zeros({5}, DType::kF32);
  EXPECT_EQ(staging.place_of(host), host.raw());
}

}  // namespace
}  // namespace polyhead
