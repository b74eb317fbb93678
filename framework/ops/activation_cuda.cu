#include <numbers>

#include "framework/cuda/math.cuh"
#include "framework/cuda/packs.cuh"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

using cuda::Divider;
using cuda::Pack;

// A function and its derivative at the same point.
struct Point {
  float value;
  float slope;
};

template <class T>
struct Silu {
  static __device__ __forceinline__ Point at(float x) {
    const float s = cuda::sigmoid<T>(x);
    return {x * s, s * (1.0f + x * (1.0f - s))};
  }
};

// 1/2 (1 + tanh(u)) = sigmoid(2u) with u = sqrt(2/pi) (x + 0.044715 x^3).
template <class T>
struct GeluTanh {
  static __device__ __forceinline__ Point at(float x) {
    constexpr auto kLinear = static_cast<float>(2 * std::numbers::sqrt2 * std::numbers::inv_sqrtpi);
    constexpr float kCubic = 0.044715f * kLinear;
    const float square = x * x;
    const float s = cuda::sigmoid<T>(x * (kLinear + kCubic * square));
    return {x * s, s * (1.0f + x * (1.0f - s) * (kLinear + 3.0f * kCubic * square))};
  }
};

template <class T>
struct GeluErf {
  static __device__ __forceinline__ Point at(float x) {
    constexpr auto kRootHalf = static_cast<float>(1 / std::numbers::sqrt2);
    constexpr auto kDensity = static_cast<float>(std::numbers::inv_sqrtpi / std::numbers::sqrt2);
    const float cumulative = 0.5f * (1.0f + erff(x * kRootHalf));
    return {x * cumulative, cumulative + x * kDensity * cuda::exponential<T>(-0.5f * x * x)};
  }
};

// y = curve(gate) * up where kGated, with `up` one width behind `gate`; else y = curve(gate).
template <class T, int kSize, class Curve, bool kGated>
struct Forward {
  static constexpr int kBatch = kGated ? 2 : 4;
  struct Input {
    Pack<T, kSize> gate, up;
  };

  Divider row_packs;
  const T* x;
  std::int64_t x_stride, width;
  T* y;
  std::int64_t y_stride;

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const auto [row, pack] = row_packs(index);
    const T* const from = x + row * x_stride + pack * kSize;
    Input input;
    input.gate = cuda::load_pack<T, kSize>(from);
    if constexpr (kGated) input.up = cuda::load_pack<T, kSize>(from + width);
    return input;
  }
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto [row, pack] = row_packs(index);
    Pack<T, kSize> result;
    result.assign([&](int i) {
      const float value = Curve::at(input.gate[i]).value;
      return kGated ? value * input.up[i] : value;
    });
    cuda::store_pack(result, y + row * y_stride + pack * kSize);
  }
};

template <class T, int kSize, class Curve, bool kGated>
struct Backward {
  static constexpr int kBatch = kGated ? 1 : 2;
  struct Input {
    Pack<T, kSize> gradient, gate, up;
  };

  Divider row_packs;
  const T* dy;
  std::int64_t dy_stride;
  const T* x;
  std::int64_t x_stride, width;
  T* dx;
  std::int64_t dx_stride;

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const auto [row, pack] = row_packs(index);
    const T* const from = x + row * x_stride + pack * kSize;
    Input input;
    input.gradient = cuda::load_pack<T, kSize>(dy + row * dy_stride + pack * kSize);
    input.gate = cuda::load_pack<T, kSize>(from);
    if constexpr (kGated) input.up = cuda::load_pack<T, kSize>(from + width);
    return input;
  }
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto [row, pack] = row_packs(index);
    T* const to = dx + row * dx_stride + pack * kSize;
    Point point[kSize];
#pragma unroll
    for (int i = 0; i < kSize; ++i) point[i] = Curve::at(input.gate[i]);
    Pack<T, kSize> dgate, dup;
    dgate.assign(
        [&](int i) { return input.gradient[i] * point[i].slope * (kGated ? input.up[i] : 1.0f); });
    cuda::store_pack(dgate, to);
    if constexpr (kGated) {
      dup.assign([&](int i) { return input.gradient[i] * point[i].value; });
      cuda::store_pack(dup, to + width);
    }
  }
};

// Calls body.operator()<Curve, kGated>() with the curve of the activation.
template <class T, class Body>
void with_curve(Activation activation, Body&& body) {
  switch (activation) {
    case Activation::kSwiglu:
      return body.template operator()<Silu<T>, true>();
    case Activation::kGeglu:
      return body.template operator()<GeluTanh<T>, true>();
    case Activation::kGeluTanh:
      return body.template operator()<GeluTanh<T>, false>();
    case Activation::kGelu:
      return body.template operator()<GeluErf<T>, false>();
  }
}

}  // namespace

template <>
void MlpActivation<Device::kCuda>::forward(const Tensor& x, Activation activation, Tensor& y) {
  const std::int64_t width = y.cols();
  cuda::dispatch_float(x.dtype(), [&]<class T>() {
    const bool aligned =
        cuda::is_aligned(x) && cuda::is_aligned(y) && cuda::is_whole_packs<T>(width);
    cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
      with_curve<T>(activation, [&]<class Curve, bool kGated>() {
        const Forward<T, kSize, Curve, kGated> body{
            Divider(width / kSize), x.data<T>(), x.row_stride(), width, y.data<T>(),
            y.row_stride()};
        cuda::for_each_pack("activation_forward", y.numel() / kSize, body);
      });
    });
  });
}

template <>
void MlpActivation<Device::kCuda>::backward(const Tensor& dy, const Tensor& x,
                                            Activation activation, Tensor& dx) {
  const std::int64_t width = dy.cols();
  cuda::dispatch_float(x.dtype(), [&]<class T>() {
    const bool aligned = cuda::is_aligned(dy) && cuda::is_aligned(x) && cuda::is_aligned(dx) &&
                         cuda::is_whole_packs<T>(width);
    cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
      with_curve<T>(activation, [&]<class Curve, bool kGated>() {
        const Backward<T, kSize, Curve, kGated> body{
            Divider(width / kSize), dy.data<T>(), dy.row_stride(), x.data<T>(),
            x.row_stride(),         width,        dx.data<T>(),    dx.row_stride()};
        cuda::for_each_pack("activation_backward", dy.numel() / kSize, body);
      });
    });
  });
}

}  // namespace polyhead::ops::kernel
