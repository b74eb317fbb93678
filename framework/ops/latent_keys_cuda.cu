#include "framework/cuda/packs.cuh"
#include "framework/ops/kernels.h"

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

// A key's packs: the head's own, then the shared ones.
template <class T, int kSize>
struct Join {
  static constexpr int kBatch = 4;
  using Input = Pack<T, kSize>;

  Divider row_packs, key_packs;
  std::int64_t own_width;
  Heads<const T> own;
  const T* shared;
  std::int64_t shared_stride;
  Heads<T> key;

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const auto [row, row_pack] = row_packs(index);
    const auto [head, pack] = key_packs(row_pack);
    const std::int64_t column = pack * kSize;
    return cuda::load_pack<T, kSize>(column < own_width
                                         ? own.at(row, head) + column
                                         : shared + row * shared_stride + column - own_width);
  }
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto [row, row_pack] = row_packs(index);
    const auto [head, pack] = key_packs(row_pack);
    cuda::store_pack(input, key.at(row, head) + pack * kSize);
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

// The gradient of the shared part: in f32 over the heads in order, rounded once.
template <class T, int kSize>
struct SumShared {
  static constexpr int kBatch = 1;
  struct Input {
    float sum[kSize];
  };

  Divider row_packs;
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
      const auto part = cuda::load_pack<T, kSize>(from + head * dkey.head_stride);
#pragma unroll
      for (int i = 0; i < kSize; ++i) input.sum[i] += part[i];
    }
    return input;
  }
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto [row, pack] = row_packs(index);
    Pack<T, kSize> result;
    result.assign([&](int i) { return input.sum[i]; });
    cuda::store_pack(result, dshared + row * dshared_stride + pack * kSize);
  }
};

}  // namespace

template <>
void LatentKeys<Device::kCuda>::forward(const HeadView& own, const Tensor& shared, HeadView& key) {
  const std::int64_t rows = shared.rows();
  cuda::dispatch_float(shared.dtype(), [&]<class T>() {
    const bool aligned = is_aligned<T>(own) && cuda::is_aligned(shared) && is_aligned<T>(key) &&
                         cuda::is_whole_packs<T>(own.head_dim) &&
                         cuda::is_whole_packs<T>(shared.cols());
    cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
      const std::int64_t packs = key.head_dim / kSize;
      const Join<T, kSize> body{
          Divider(key.heads * packs), Divider(packs),      own.head_dim, heads<T>(own),
          shared.data<T>(),           shared.row_stride(), heads<T>(key)};
      cuda::for_each_pack("latent_keys_forward", rows * key.heads * packs, body);
    });
  });
}

template <>
void LatentKeys<Device::kCuda>::backward(const HeadView& dkey, HeadView& d_own, Tensor& dshared) {
  const std::int64_t rows = dshared.rows();
  const HeadView dkey_shared = head_dims(dkey, d_own.head_dim, dkey.head_dim);
  cuda::dispatch_float(dshared.dtype(), [&]<class T>() {
    const bool aligned = is_aligned<T>(dkey) && is_aligned<T>(d_own) && cuda::is_aligned(dshared) &&
                         cuda::is_whole_packs<T>(d_own.head_dim) &&
                         cuda::is_whole_packs<T>(dshared.cols());
    cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
      const std::int64_t own_packs = d_own.head_dim / kSize, shared_packs = dshared.cols() / kSize;
      const TakeOwn<T, kSize> take{Divider(dkey.heads * own_packs), Divider(own_packs),
                                   heads<T>(dkey), heads<T>(d_own)};
      cuda::for_each_pack("latent_keys_backward: own", rows * dkey.heads * own_packs, take);
      const SumShared<T, kSize> sum{Divider(shared_packs), static_cast<int>(dkey.heads),
                                    heads<T>(dkey_shared), dshared.data<T>(), dshared.row_stride()};
      cuda::for_each_pack("latent_keys_backward: shared", rows * shared_packs, sum);
    });
  });
}

}  // namespace polyhead::ops::kernel
