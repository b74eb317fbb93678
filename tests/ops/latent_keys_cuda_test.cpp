#include <gtest/gtest.h>

#include <cmath>

#include "framework/ops/latent_keys.h"
#include "tests/support/cuda_operands.h"

namespace polyhead::ops {
namespace {

using testing::Operand;
using testing::Placement;

// The heads' own parts lie in [own | value] per head, the shared part in the columns of a latent.
struct Case {
  std::int64_t tokens, length, heads, own, shared, value;
  Placement placement;
};
constexpr Case kCases[] = {
    {6, 3, 5, 4, 2, 3, testing::kUnaligned},       {14, 7, 3, 16, 16, 16, testing::kAligned},
    {14, 7, 3, 16, 16, 4, testing::kAlone},  // values that leave own parts off the borders of packs
    {5, 5, 2, 20, 16, 12, testing::kAlone},  // and own parts of no whole number of packs
    {9, 3, 3, 16, 8, 16, testing::kAligned},  // half of what is shared is no whole pack of bf16
    {515, 103, 16, 128, 64, 128, testing::kAlone}, {64, 64, 1, 64, 64, 64, testing::kAligned},
};

template <class Body>
void for_each_case(const Body& body) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const Case& c : kCases) {
      SCOPED_TRACE(fmt::format("{}: {} heads, own {}, shared {}, value {}", name_of(dtype), c.heads,
                               c.own, c.shared, c.value));
      body(dtype, c);
    }
  }
}

// On the device, and in f64 on the host.
std::pair<RopeTable, RopeTable> tables(const Case& c) {
  std::vector<double> frequencies;
  for (std::int64_t j = 0; j < c.shared / 2; ++j) {
    frequencies.push_back(
        std::pow(1e4, -2.0 * static_cast<double>(j) / static_cast<double>(c.shared)));
  }
  const RopeTable table = make_rope_table(frequencies, 1.25, c.length + 2, DType::kF32);
  return {{table.cos.to(Device::kCuda), table.sin.to(Device::kCuda)},
          make_rope_table(frequencies, 1.25, c.length + 2, DType::kF64)};
}

HeadView own_of(const Tensor& packed, const Case& c) {
  return head_dims(heads_of(packed, c.heads), 0, c.own);
}

TEST(LatentKeysCuda, PutOwnAndRotatedPartsSideBySide) {
  for_each_case([](DType dtype, const Case& c) {
    const Operand packed =
        Operand::random({c.tokens, c.heads * (c.own + c.value), testing::kAlone}, dtype, "packed");
    const Operand shared = Operand::random({c.tokens, c.shared, c.placement}, dtype, "shared");
    Operand key = Operand::unwritten({c.tokens, c.heads * (c.own + c.shared), c.placement}, dtype);
    HeadView device_key = heads_of(key.device, c.heads), host_key = heads_of(key.host, c.heads);
    const auto [device_table, host_table] = tables(c);
    latent_keys_forward(own_of(packed.device, c), shared.device, device_table, c.length,
                        device_key);
    latent_keys_forward(own_of(packed.host, c), shared.host, host_table, c.length, host_key);
    key.expect_close(key.host, testing::rounding(dtype));

    Tensor rotated = shared.device.clone();
    HeadView as_head = heads_of(rotated, 1);
    rope(device_table, c.length, Rotation::kForward, as_head);
    const Tensor want_shared = testing::to_host(rotated), got = testing::to_host(key.device);
    for (std::int64_t n = 0; n < c.tokens; ++n) {
      for (std::int64_t column = 0; column < key.host.cols(); ++column) {
        const std::int64_t head = column / (c.own + c.shared), i = column % (c.own + c.shared);
        ASSERT_EQ(testing::at(got, n, column),
                  i < c.own ? testing::at(packed.host, n, head * (c.own + c.value) + i)
                            : testing::at(want_shared, n, i - c.own));
      }
    }
  });
}

TEST(LatentKeysCuda, GradientsEqualTheCpu) {
  for_each_case([](DType dtype, const Case& c) {
    const Operand dkey =
        Operand::random({c.tokens, c.heads * (c.own + c.shared), c.placement}, dtype, "dkey");
    // Columns of values, which the op must leave alone, are random here and not NaN.
    Operand dpacked =
        Operand::random({c.tokens, c.heads * (c.own + c.value), testing::kAlone}, dtype, "dpacked");
    Operand dshared = Operand::unwritten({c.tokens, c.shared, c.placement}, dtype);
    HeadView device_own = own_of(dpacked.device, c), host_own = own_of(dpacked.host, c);
    const auto [device_table, host_table] = tables(c);
    latent_keys_backward(heads_of(dkey.device, c.heads), device_table, c.length, device_own,
                         dshared.device);
    latent_keys_backward(heads_of(dkey.host, c.heads), host_table, c.length, host_own,
                         dshared.host);
    dpacked.expect_close(dpacked.host, 0);
    dshared.expect_close(dshared.host, testing::rounding(dtype));
  });
}

}  // namespace
}  // namespace polyhead::ops
