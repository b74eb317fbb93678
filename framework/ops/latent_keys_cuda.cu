#include "framework/cuda/packs.cuh"
#include "framework/ops/kernels.h"
#include "framework/ops/rope_rotation.cuh"

namespace polyhead::ops::kernel {
namespace {

using cuda::Divider;
using cuda::Pack;

template <class T>
struct Heads {
  T* data;
  std::int64_t row_stride, head_stride;

  __device__ __forceinline__ T* at(std::int64_t row, std::int64_t head) const {
    return data + row * row_stride + head * head_stride;
  }
};

template <class T>
Heads<const T> heads(const HeadView& view) {
  return {view.columns.data<T>(), view.columns.row_stride(), view.head_stride};
}
template <class T>
Heads<T> heads(HeadView& view) {
  return {view.columns.data<T>(), view.columns.row_stride(), view.head_stride};
}

template <class T>
bool is_aligned(const HeadView& view) {
  return cuda::is_aligned(view.columns) && cuda::is_whole_packs<T>(view.head_stride);
}

// The angles by which packs of the shared part turn with the packs half of it behind.
struct Angles {
  Divider sequence_length;
  std::int64_t half;
  const float *cos, *sin;

  Angles(const RopeTable& table, std::int64_t length)
      : sequence_length(length),
        half(table.cos.cols()),
        cos(table.cos.data<float>()),
        sin(table.sin.data<float>()) {}

  __device__ __forceinline__ std::int64_t at(std::int64_t row, std::int64_t column) const {
    return sequence_length(row).remainder * half + column;
  }
};

// A key's packs: the head's own, then those of the shared part's first half, each with the one that
// it turns with.
template <class T, int kSize>
struct Join {
  static constexpr int kBatch = 4;
  struct Input {
    Pack<T, kSize> first, second;
  };

  Divider row_packs, key_packs;
  std::int64_t own_width;
  Angles angles;
  Heads<const T> own;
  const T* shared;
  std::int64_t shared_stride;
  Heads<T> key;

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const auto [row, row_pack] = row_packs(index);
    const auto [head, pack] = key_packs(row_pack);
    const std::int64_t column = pack * kSize;
    Input input;
    if (column < own_width) {
      input.first = cuda::load_pack<T, kSize>(own.at(row, head) + column);
    } else {
      const T* const from = shared + row * shared_stride + column - own_width;
      input.first = cuda::load_pack<T, kSize>(from);
      input.second = cuda::load_pack<T, kSize>(from + angles.half);
    }
    return input;
  }
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto [row, row_pack] = row_packs(index);
    const auto [head, pack] = key_packs(row_pack);
    const std::int64_t column = pack * kSize;
    T* const to = key.at(row, head) + column;
    if (column < own_width) {
      cuda::store_pack(input.first, to);
      return;
    }
    const std::int64_t angle = angles.at(row, column - own_width);
    Pack<T, kSize> first, second;
    rotate_into(angles.cos + angle, angles.sin + angle, 1.0f, input.first, input.second, first,
                second);
    cuda::store_pack(first, to);
    cuda::store_pack(second, to + angles.half);
  }
};

// The gradient of each head's own part.
template <class T, int kSize>
struct TakeOwn {
  static constexpr int kBatch = 4;
  using Input = Pack<T, kSize>;

  Divider row_packs, own_packs;
  Heads<const T> dkey;
  Heads<T> d_own;

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const auto [row, row_pack] = row_packs(index);
    const auto [head, pack] = own_packs(row_pack);
    return cuda::load_pack<T, kSize>(dkey.at(row, head) + pack * kSize);
  }
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto [row, row_pack] = row_packs(index);
    const auto [head, pack] = own_packs(row_pack);
    cuda::store_pack(input, d_own.at(row, head) + pack * kSize);
  }
};

// The gradient of the shared part: in f32 over the heads in order, turned back and rounded once.
template <class T, int kSize>
struct SumShared {
  static constexpr int kBatch = 1;
  struct Input {
    float first[kSize], second[kSize];
  };

  Divider row_packs;
  Angles angles;
  int heads;
  Heads<const T> dkey;  // the shared columns of it
  T* dshared;
  std::int64_t dshared_stride;

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const auto [row, pack] = row_packs(index);
    const T* const from = dkey.at(row, 0) + pack * kSize;
    Input input{};
#pragma unroll 8
    for (int head = 0; head < heads; ++head) {
      const T* const part = from + head * dkey.head_stride;
      const auto first = cuda::load_pack<T, kSize>(part);
      const auto second = cuda::load_pack<T, kSize>(part + angles.half);
#pragma unroll
      for (int i = 0; i < kSize; ++i) {
        input.first[i] += first[i];
        input.second[i] += second[i];
      }
    }
    return input;
  }
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto [row, pack] = row_packs(index);
    const std::int64_t angle = angles.at(row, pack * kSize);
    Pack<T, kSize> first, second;
    rotate_into(angles.cos + angle, angles.sin + angle, -1.0f, input.first, input.second, first,
                second);
    T* const to = dshared + row * dshared_stride + pack * kSize;
    cuda::store_pack(first, to);
    cuda::store_pack(second, to + angles.half);
  }
};

}  // namespace

template <>
void LatentKeys<Device::kCuda>::forward(const HeadView& own, const Tensor& shared,
                                        const RopeTable& table, std::int64_t sequence_length,
                                        HeadView& key) {
  const std::int64_t rows = shared.rows();
  const Angles angles(table, sequence_length);
  cuda::dispatch_float(shared.dtype(), [&]<class T>() {
    const bool aligned = is_aligned<T>(own) && cuda::is_aligned(shared) && is_aligned<T>(key) &&
                         cuda::is_whole_packs<T>(own.head_dim) &&
                         cuda::is_whole_packs<T>(angles.half);
    cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
      const std::int64_t packs = (own.head_dim + angles.half) / kSize;
      const Join<T, kSize> body{
          Divider(key.heads * packs), Divider(packs),      own.head_dim, angles, heads<T>(own),
          shared.data<T>(),           shared.row_stride(), heads<T>(key)};
      cuda::for_each_pack("latent_keys_forward", rows * key.heads * packs, body);
    });
  });
}

template <>
void LatentKeys<Device::kCuda>::backward(const HeadView& dkey, const RopeTable& table,
                                         std::int64_t sequence_length, HeadView& d_own,
                                         Tensor& dshared) {
  const std::int64_t rows = dshared.rows();
  const Angles angles(table, sequence_length);
  const HeadView dkey_shared = head_dims(dkey, d_own.head_dim, dkey.head_dim);
  cuda::dispatch_float(dshared.dtype(), [&]<class T>() {
    const bool aligned = is_aligned<T>(dkey) && is_aligned<T>(d_own) && cuda::is_aligned(dshared) &&
                         cuda::is_whole_packs<T>(d_own.head_dim) &&
                         cuda::is_whole_packs<T>(angles.half);
    cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
      const std::int64_t own_packs = d_own.head_dim / kSize, shared_packs = angles.half / kSize;
      const TakeOwn<T, kSize> take{Divider(dkey.heads * own_packs), Divider(own_packs),
                                   heads<T>(dkey), heads<T>(d_own)};
      cuda::for_each_pack("latent_keys_backward: own", rows * dkey.heads * own_packs, take);
      const SumShared<T, kSize> sum{Divider(shared_packs),
                                    angles,
                                    static_cast<int>(dkey.heads),
                                    heads<T>(dkey_shared),
                                    dshared.data<T>(),
                                    dshared.row_stride()};
      cuda::for_each_pack("latent_keys_backward: shared", rows * shared_packs, sum);
    });
  });
}

}  // namespace polyhead::ops::kernel
