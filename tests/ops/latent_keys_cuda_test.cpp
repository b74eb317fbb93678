#include <gtest/gtest.h>

#include "framework/ops/latent_keys.h"
#include "tests/support/cuda_operands.h"

namespace polyhead::ops {
namespace {

using testing::Operand;
using testing::Placement;

// The heads' own parts lie in [own | value] per head, the shared part in the columns of a latent.
struct Case {
  std::int64_t tokens, heads, own, shared, value;
  Placement placement;
};
constexpr Case kCases[] = {
    {3, 5, 4, 2, 3, testing::kUnaligned},     {7, 3, 16, 8, 16, testing::kAligned},
    {7, 3, 16, 8, 4, testing::kAlone},   // values that leave own parts off the borders of packs
    {5, 2, 20, 8, 12, testing::kAlone},  // and parts of no whole number of packs
    {515, 16, 128, 64, 128, testing::kAlone}, {64, 1, 64, 64, 64, testing::kAligned},
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

HeadView own_of(const Tensor& packed, const Case& c) {
  return head_dims(heads_of(packed, c.heads), 0, c.own);
}

TEST(LatentKeysCuda, PutOwnAndSharedPartsSideBySide) {
  for_each_case([](DType dtype, const Case& c) {
    const Operand packed =
        Operand::random({c.tokens, c.heads * (c.own + c.value), testing::kAlone}, dtype, "packed");
    const Operand shared = Operand::random({c.tokens, c.shared, c.placement}, dtype, "shared");
    Operand key = Operand::unwritten({c.tokens, c.heads * (c.own + c.shared), c.placement}, dtype);
    HeadView device_key = heads_of(key.device, c.heads), host_key = heads_of(key.host, c.heads);
    latent_keys_forward(own_of(packed.device, c), shared.device, device_key);
    latent_keys_forward(own_of(packed.host, c), shared.host, host_key);
    key.expect_close(key.host, 0);
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
    latent_keys_backward(heads_of(dkey.device, c.heads), device_own, dshared.device);
    latent_keys_backward(heads_of(dkey.host, c.heads), host_own, dshared.host);
    dpacked.expect_close(dpacked.host, 0);
    dshared.expect_close(dshared.host, testing::rounding(dtype));
  });
}

}  // namespace
}  // namespace polyhead::ops
