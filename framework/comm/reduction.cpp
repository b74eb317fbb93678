#include "framework/comm/reduction.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "framework/bf16.h"
#include "framework/error.h"

namespace polyhead {
namespace {

// Block by block: the running result stays in the first-level cache and every contribution is read
// once.
template <class T, class Combine>
void reduce_blocks(std::span<const void* const> contributions, std::int64_t count, T* result,
                   Combine combine) {
  constexpr std::int64_t kBlock = 1024;
  std::array<T, kBlock> block;
  for (std::int64_t begin = 0; begin < count; begin += kBlock) {
    const std::int64_t length = std::min(kBlock, count - begin);
    const std::size_t bytes = static_cast<std::size_t>(length) * sizeof(T);
    std::memcpy(block.data(), static_cast<const T*>(contributions.front()) + begin, bytes);
    for (const void* contribution : contributions.subspan(1)) {
      const T* x = static_cast<const T*>(contribution) + begin;
      for (std::int64_t i = 0; i < length; ++i) {
        T& running = block[static_cast<std::size_t>(i)];
        running = combine(running, x[i]);
      }
    }
    std::memcpy(result + begin, block.data(), bytes);
  }
}

Bf16 operator+(Bf16 a, Bf16 b) {
  return to_bf16(to_float(a) + to_float(b));
}
bool operator<(Bf16 a, Bf16 b) {
  return to_float(a) < to_float(b);
}
template <class T>
bool is_nan(T x) {
  return x != x;
}
bool is_nan(Bf16 x) {
  return std::isnan(to_float(x));
}

template <class T>
void reduce(std::span<const void* const> contributions, Reduction reduction, std::int64_t count,
            T* result) {
  if (reduction == Reduction::kSum) {
    reduce_blocks<T>(contributions, count, result, [](T a, T b) { return a + b; });
  } else {
    reduce_blocks<T>(contributions, count, result,
                     [](T a, T b) { return a < b || is_nan(b) ? b : a; });
  }
}

}  // namespace

void reduce_in_order(std::span<const void* const> contributions, DType dtype, Reduction reduction,
                     std::int64_t count, void* result) {
  switch (dtype) {
    case DType::kF32:
      return reduce(contributions, reduction, count, static_cast<float*>(result));
    case DType::kF64:
      return reduce(contributions, reduction, count, static_cast<double*>(result));
    case DType::kI32:
      return reduce(contributions, reduction, count, static_cast<std::int32_t*>(result));
    case DType::kBf16:
      return reduce(contributions, reduction, count, static_cast<Bf16*>(result));
    case DType::kF16:
    case DType::kI64:
      POLYHEAD_CHECK(false, "no reduction of {}", name_of(dtype));
  }
}

}  // namespace polyhead
