#include "framework/cuda/packs.cuh"
#include "framework/ops/rope.h"
#include "framework/ops/rope_rotation.cuh"

namespace polyhead::ops::kernel {
namespace {

using cuda::Divider;
using cuda::Pack;

// Index: row by row, in a row head by head, in a head the packs of its first half. So the heads of
// a row find its angles in the cache.
template <class T, int kSize>
struct Rotate {
  static constexpr int kBatch = 2;
  struct Input {
    Pack<T, kSize> first, second;
  };

  Divider row_packs, head_packs, sequence_length;
  std::int64_t half;
  const float *cos, *sin;
  float direction;  // of the rotation: 1 or -1
  T* x;
  std::int64_t row_stride, head_stride;

  struct Place {
    std::int64_t element, angle;
  };
  __device__ __forceinline__ Place place(std::int64_t index) const {
    const auto [row, row_pack] = row_packs(index);
    const auto [head, pack] = head_packs(row_pack);
    const std::int64_t position = sequence_length(row).remainder;
    return {row * row_stride + head * head_stride + pack * kSize, position * half + pack * kSize};
  }

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const T* const from = x + place(index).element;
    return {cuda::load_pack<T, kSize>(from), cuda::load_pack<T, kSize>(from + half)};
  }

  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto [element, angle] = place(index);
    Pack<T, kSize> first = input.first, second = input.second;
    rotate_packs(cos + angle, sin + angle, direction, first, second);
    cuda::store_pack(first, x + element);
    cuda::store_pack(second, x + element + half);
  }
};

}  // namespace

template <>
void rope<Device::kCuda>(const RopeTable& table, std::int64_t sequence_length, Rotation rotation,
                         HeadView& x) {
  const std::int64_t rows = x.columns.rows(), half = table.cos.cols();
  cuda::dispatch_float(x.columns.dtype(), [&]<class T>() {
    const bool aligned = cuda::is_aligned(x.columns) && cuda::is_whole_packs<T>(half) &&
                         cuda::is_whole_packs<T>(x.head_stride);
    cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
      const std::int64_t packs = half / kSize;
      const Rotate<T, kSize> body{Divider(x.heads * packs),
                                  Divider(packs),
                                  Divider(sequence_length),
                                  half,
                                  table.cos.data<float>(),
                                  table.sin.data<float>(),
                                  rotation == Rotation::kForward ? 1.0f : -1.0f,
                                  x.columns.data<T>(),
                                  x.columns.row_stride(),
                                  x.head_stride};
      cuda::for_each_pack("rope", rows * x.heads * packs, body);
    });
  });
}

}  // namespace polyhead::ops::kernel
