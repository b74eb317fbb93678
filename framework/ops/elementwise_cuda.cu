#include <algorithm>
#include <initializer_list>

#include "framework/cuda/packs.cuh"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

using cuda::Computed;
using cuda::Divider;
using cuda::Pack;

// Calls kernel.operator()<T>() with T = float, __nv_bfloat16, or double, which scalars are.
template <class Kernel>
void dispatch_stored(DType dtype, Kernel&& kernel) {
  if (dtype == DType::kF64) return kernel.template operator()<double>();
  cuda::dispatch_float(dtype, kernel);
}

// Rows and columns of tensors of one shape; contiguous tensors count as one long row.
struct Extent {
  std::int64_t rows;
  std::int64_t columns;
};

Extent extent_of(std::initializer_list<const Tensor*> tensors) {
  const Tensor& first = **tensors.begin();
  const bool flat = std::all_of(tensors.begin(), tensors.end(),
                                [](const Tensor* x) { return x->is_contiguous(); });
  return flat ? Extent{1, first.numel()} : Extent{first.rows(), first.cols()};
}

// y = function(a, b), element by element. What a function ignores is not loaded.
template <class T, int kSize, class Function>
struct Map {
  static constexpr int kBatch = 4;
  struct Input {
    Pack<T, kSize> a, b;
  };

  Divider row_packs;
  Function function;
  const T* a;
  const T* b;
  T* y;
  std::int64_t a_stride, b_stride, y_stride;

  __device__ __forceinline__ Input load(std::int64_t index) const {
    const auto [row, pack] = row_packs(index);
    return {cuda::load_pack<T, kSize>(a + row * a_stride + pack * kSize),
            cuda::load_pack<T, kSize>(b + row * b_stride + pack * kSize)};
  }
  __device__ __forceinline__ void store(std::int64_t index, const Input& input) const {
    const auto [row, pack] = row_packs(index);
    Pack<T, kSize> result;
    result.assign([&](int i) { return function(input.a[i], input.b[i]); });
    cuda::store_pack(result, y + row * y_stride + pack * kSize);
  }
};

template <class T, class Function>
void map(const char* name, const Extent& extent, const Tensor& a, const Tensor& b,
         std::int64_t b_stride, const Function& function, Tensor& y) {
  const bool aligned = cuda::is_aligned(a) && cuda::is_aligned(b) && cuda::is_aligned(y) &&
                       cuda::is_whole_packs<T>(extent.columns);
  cuda::with_pack_size<T>(aligned, [&]<int kSize>() {
    const Map<T, kSize, Function> body{Divider(extent.columns / kSize),
                                       function,
                                       a.data<T>(),
                                       b.data<T>(),
                                       y.data<T>(),
                                       a.row_stride(),
                                       b_stride,
                                       y.row_stride()};
    cuda::for_each_pack(name, extent.rows * extent.columns / kSize, body);
  });
}

// x = function(x), or y = function(a, b).
template <class T, class Function>
void map(const char* name, const Function& function, Tensor& x) {
  map<T>(name, extent_of({&x}), x, x, x.row_stride(), function, x);
}
template <class T, class Function>
void map(const char* name, const Tensor& a, const Tensor& b, const Function& function, Tensor& y) {
  map<T>(name, extent_of({&a, &b, &y}), a, b, b.row_stride(), function, y);
}

template <class Real>
struct Fill {
  Real value;
  __device__ __forceinline__ Real operator()(Real, Real) const { return value; }
};

template <class Real>
struct Scale {
  Real factor;
  __device__ __forceinline__ Real operator()(Real x, Real) const { return x * factor; }
};

struct Add {
  template <class Real>
  __device__ __forceinline__ Real operator()(Real a, Real b) const {
    return a + b;
  }
};

template <class T>
struct SoftcapForward {
  float cap, inverse;
  __device__ __forceinline__ float operator()(float x, float) const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return cap * tanhf(x * inverse);
    } else {
      float tanh;  // to 2^-11: a quarter of the rounding to bf16
      asm("tanh.approx.f32 %0, %1;" : "=f"(tanh) : "f"(x * inverse));
      return cap * tanh;
    }
  }
};

struct SoftcapBackward {
  float inverse;
  __device__ __forceinline__ float operator()(float y, float dy) const {
    const float tanh = y * inverse;
    return dy * (1.0f - tanh * tanh);
  }
};

__global__ void clip_scale_kernel(const double* squares, double max_norm, double* scale) {
  const double norm = sqrt(*squares);
  const double unlimited = isfinite(norm) ? 1.0 : nan("");
  *scale =
      max_norm > 0 && max_norm < norm + 1e-6 ? max_norm / (norm + 1e-6) * unlimited : unlimited;
}

}  // namespace

template <>
void Elementwise<Device::kCuda>::fill(double value, Tensor& x) {
  dispatch_stored(x.dtype(), [&]<class T>() {
    map<T>("fill", Fill<Computed<T>>{static_cast<Computed<T>>(value)}, x);
  });
}

template <>
void Elementwise<Device::kCuda>::scale(double factor, Tensor& x) {
  dispatch_stored(x.dtype(), [&]<class T>() {
    map<T>("scale", Scale<Computed<T>>{static_cast<Computed<T>>(factor)}, x);
  });
}

template <>
void Elementwise<Device::kCuda>::add(const Tensor& a, const Tensor& b, Tensor& y) {
  dispatch_stored(y.dtype(), [&]<class T>() { map<T>("add", a, b, Add{}, y); });
}

// Every row of y meets the same bias.
template <>
void Elementwise<Device::kCuda>::add_bias(const Tensor& bias, Tensor& y) {
  cuda::dispatch_float(y.dtype(), [&]<class T>() {
    map<T>("add_bias", Extent{y.rows(), y.cols()}, y, bias, 0, Add{}, y);
  });
}

template <>
void Elementwise<Device::kCuda>::softcap_forward(double cap, Tensor& x) {
  cuda::dispatch_float(x.dtype(), [&]<class T>() {
    map<T>("softcap_forward",
           SoftcapForward<T>{static_cast<float>(cap), static_cast<float>(1 / cap)}, x);
  });
}

template <>
void Elementwise<Device::kCuda>::softcap_backward(const Tensor& y, double cap, Tensor& dy) {
  cuda::dispatch_float(y.dtype(), [&]<class T>() {
    map<T>("softcap_backward", y, dy, SoftcapBackward{static_cast<float>(1 / cap)}, dy);
  });
}

template <>
void Elementwise<Device::kCuda>::clip_scale(const Tensor& squares, double max_norm, Tensor& scale) {
  clip_scale_kernel<<<1, 1, 0, cuda::Context::instance().stream()>>>(
      squares.data<double>(), max_norm, scale.data<double>());
  cuda::check_launch("clip_scale");
}

}  // namespace polyhead::ops::kernel
