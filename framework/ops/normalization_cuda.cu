// Every tensor crosses memory once: rows stay in registers between the passes over them. Blocks
// stay too and walk over the rows, so that the gradients of the weights are sums in registers until
// the end; a second kernel then adds the blocks' sums in order. Rows that are read element by
// element come a second time, from the caches.
#include <algorithm>

#include "framework/cuda/check.h"
#include "framework/cuda/context.h"
#include "framework/ops/kernels.h"
#include "framework/ops/normalization_backward.cuh"
#include "framework/ops/normalization_forward.cuh"

namespace polyhead::ops::kernel {
namespace norms {
namespace {

// dweight, and dbias behind it, += the sums of the columns of `partial`. A block has as many
// columns as a warp has lanes, and as many warps.
__global__ void __launch_bounds__(cuda::kWarpSize* cuda::kWarpSize)
    add_partials_kernel(Rows<const float> partial, int count, int columns, float* dweight,
                        float* dbias) {
  cuda::wait_for_work_before();
  __shared__ float sums[cuda::kWarpSize][cuda::kWarpSize + 1];
  const int lane = static_cast<int>(threadIdx.x), warp = static_cast<int>(threadIdx.y);
  const int first = static_cast<int>(blockIdx.x) * cuda::kWarpSize;
  const int all_columns = static_cast<int>(partial.stride);
  float sum = 0;
  if (first + lane < all_columns) {
    constexpr int kAtOnce = 16;  // on their way
    for (int begin = warp; begin < count; begin += kAtOnce * cuda::kWarpSize) {
      float some[kAtOnce];
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        const int row = begin + i * cuda::kWarpSize;
        some[i] = row < count ? partial[row][first + lane] : 0.0f;
      }
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) sum += some[i];
    }
  }
  sums[warp][lane] = sum;
  __syncthreads();
  const float total = cuda::warp_reduce(sums[lane][warp], cuda::Sum{});
  const int column = first + warp;
  if (lane != 0 || column >= all_columns) return;
  (column < columns ? dweight[column] : dbias[column - columns]) += total;
}

template <class T>
Rows<const T> rows_of(const Tensor& x) {
  return x ? Rows<const T>{x.data<T>(), x.row_stride()} : Rows<const T>{};
}
template <class T>
Rows<T> rows_of(Tensor& x) {
  return x ? Rows<T>{x.data<T>(), x.row_stride()} : Rows<T>{};
}
// rstd (N), a vector, as rows of one element.
Rows<const float> column_of(const Tensor& rstd) {
  return {rstd.data<float>(), 1};
}
Rows<float> column_of(Tensor& rstd) {
  return {rstd.data<float>(), 1};
}

// In words of 16 bytes, also those of a weight (rows a stride of 0 apart) or an absent tensor.
template <class... T>
bool are_aligned(const Rows<T>&... rows) {
  const auto divides = [](std::uintptr_t bytes) { return bytes % 16 == 0; };
  return ((divides(reinterpret_cast<std::uintptr_t>(rows.data)) &&
           divides(static_cast<std::uintptr_t>(rows.stride) * sizeof(T))) &&
          ...);
}

constexpr int kElementsThreads = 1024;  // at once on a multiprocessor, where rows go by elements

int blocks_for(std::int64_t rows, const TeamShape& shape, int threads_at_once) {
  const std::int64_t needed = (rows + shape.teams() - 1) / shape.teams();
  return static_cast<int>(std::min<std::int64_t>(
      needed, cuda::Context::instance().multiprocessors() * (threads_at_once / shape.threads)));
}

// Calls launch.operator()<kWords>().
template <class Launch>
void dispatch_words(int words, Launch&& launch) {
  switch (words) {
    case 0:
      return launch.template operator()<0>();
    case 1:
      return launch.template operator()<1>();
    case 2:
      return launch.template operator()<2>();
    case 3:
      return launch.template operator()<3>();
    default:
      return launch.template operator()<kMostWords>();
  }
}

template <class T, bool kCentered>
void launch_forward(const Forward<T>& a) {
  if (a.rows == 0 || a.columns == 0) return;
  const bool aligned =
      are_aligned(a.x, a.addend, a.sum, a.y, Rows<const T>{a.weight, 0}, Rows<const T>{a.bias, 0});
  const TeamShape shape = team_shape(a.columns, Word<T>::kSize, aligned);
  constexpr const char* kName = "norm forward";
  dispatch_words(shape.words, [&]<int kWords>() {
    if constexpr (kWords == 0) {
      const int blocks = blocks_for(a.rows, shape, kElementsThreads);
      cuda::launch(kName, forward_elements_kernel<T, kCentered>, blocks, shape.threads, 0, a,
                   shape.lanes);
    } else {
      const int blocks =
          blocks_for(a.rows, shape, forward_threads(kWords) * forward_blocks(kWords));
      cuda::launch(kName, forward_kernel<T, kCentered, kWords>, blocks, shape.threads, 0, a,
                   shape.lanes);
    }
  });
}

template <class T, bool kCentered>
void launch_backward(Backward<T> a, float* dweight, float* dbias) {
  if (a.rows == 0 || a.columns == 0) return;
  const bool aligned = are_aligned(a.dy, a.x, a.dresidual, a.dx, Rows<const T>{a.weight, 0});
  const TeamShape shape = team_shape(a.columns, Word<T>::kSize, aligned);
  const int all_columns = kCentered ? 2 * a.columns : a.columns;
  constexpr const char* kName = "norm backward";
  Tensor partial;
  const auto make_partial = [&](int rows) {
    partial = Tensor::empty({rows, all_columns}, DType::kF32, Device::kCuda);
    a.partial = rows_of<float>(partial);
  };
  dispatch_words(shape.words, [&]<int kWords>() {
    if constexpr (kWords == 0) {
      const int blocks = blocks_for(a.rows, shape, kElementsThreads);
      make_partial(blocks * shape.teams());
      cuda::launch(kName, backward_elements_kernel<T, kCentered>, blocks, shape.threads, 0, a,
                   shape.lanes);
    } else {
      const int blocks =
          blocks_for(a.rows, shape, backward_threads(kWords) * backward_blocks(kWords));
      make_partial(blocks);
      const int shared = shape.teams() == 1 ? 0 : shape.teams() * a.columns;
      cuda::launch(kName, backward_kernel<T, kCentered, kWords>, blocks, shape.threads,
                   static_cast<std::size_t>(shared) * sizeof(float), a, shape.lanes);
    }
  });
  const dim3 threads(cuda::kWarpSize, cuda::kWarpSize);
  const int blocks = (all_columns + cuda::kWarpSize - 1) / cuda::kWarpSize;
  cuda::launch("norm weight gradients", add_partials_kernel, blocks, threads, 0,
               Rows<const float>{a.partial.data, a.partial.stride},
               static_cast<int>(partial.rows()), a.columns, dweight, dbias);
}

float weight_offset(NormWeight form) {
  return form == NormWeight::kOnePlus ? 1.0f : 0.0f;
}

int columns_of(const Tensor& x) {
  return static_cast<int>(x.cols());
}

}  // namespace
}  // namespace norms

template <>
void RmsNorm<Device::kCuda>::forward(const Tensor& addend, const Tensor& x, const Tensor& weight,
                                     NormWeight form, double epsilon, Tensor& sum, Tensor& y,
                                     Tensor& rstd) {
  cuda::dispatch_float(x.dtype(), [&]<class T>() {
    using namespace norms;
    Forward<T> a;
    a.x = rows_of<T>(x);
    a.addend = rows_of<T>(addend);
    a.weight = weight.data<T>();
    a.offset = weight_offset(form);
    a.epsilon = static_cast<float>(epsilon);
    a.sum = rows_of<T>(sum);
    a.y = rows_of<T>(y);
    a.statistics = column_of(rstd);
    a.rows = x.rows();
    a.columns = columns_of(x);
    launch_forward<T, false>(a);
  });
}

template <>
void RmsNorm<Device::kCuda>::apply(const Tensor& x, const Tensor& weight, NormWeight form,
                                   const Tensor& rstd, Tensor& y) {
  cuda::dispatch_float(x.dtype(), [&]<class T>() {
    using namespace norms;
    Forward<T> a;
    a.x = rows_of<T>(x);
    a.weight = weight.data<T>();
    a.offset = weight_offset(form);
    a.y = rows_of<T>(y);
    a.given = column_of(rstd);
    a.rows = x.rows();
    a.columns = columns_of(x);
    launch_forward<T, false>(a);
  });
}

template <>
void RmsNorm<Device::kCuda>::backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                      NormWeight form, const Tensor& rstd, const Tensor& dresidual,
                                      Tensor& dx, Tensor& dweight) {
  cuda::dispatch_float(x.dtype(), [&]<class T>() {
    using namespace norms;
    Backward<T> a;
    a.dy = rows_of<T>(dy);
    a.x = rows_of<T>(x);
    a.dresidual = rows_of<T>(dresidual);
    a.weight = weight.data<T>();
    a.offset = weight_offset(form);
    a.statistics = column_of(rstd);
    a.dx = rows_of<T>(dx);
    a.rows = x.rows();
    a.columns = columns_of(x);
    launch_backward<T, false>(a, dweight.data<float>(), nullptr);
  });
}

template <>
void LayerNorm<Device::kCuda>::forward(const Tensor& addend, const Tensor& x, const Tensor& weight,
                                       const Tensor& bias, double epsilon, Tensor& sum, Tensor& y,
                                       Tensor& statistics) {
  cuda::dispatch_float(x.dtype(), [&]<class T>() {
    using namespace norms;
    Forward<T> a;
    a.x = rows_of<T>(x);
    a.addend = rows_of<T>(addend);
    a.weight = weight.data<T>();
    a.bias = bias.data<T>();
    a.epsilon = static_cast<float>(epsilon);
    a.sum = rows_of<T>(sum);
    a.y = rows_of<T>(y);
    a.statistics = rows_of<float>(statistics);
    a.rows = x.rows();
    a.columns = columns_of(x);
    launch_forward<T, true>(a);
  });
}

template <>
void LayerNorm<Device::kCuda>::apply(const Tensor& x, const Tensor& weight, const Tensor& bias,
                                     const Tensor& statistics, Tensor& y) {
  cuda::dispatch_float(x.dtype(), [&]<class T>() {
    using namespace norms;
    Forward<T> a;
    a.x = rows_of<T>(x);
    a.weight = weight.data<T>();
    a.bias = bias.data<T>();
    a.y = rows_of<T>(y);
    a.given = rows_of<float>(statistics);
    a.rows = x.rows();
    a.columns = columns_of(x);
    launch_forward<T, true>(a);
  });
}

template <>
void LayerNorm<Device::kCuda>::backward(const Tensor& dy, const Tensor& x, const Tensor& weight,
                                        const Tensor& statistics, const Tensor& dresidual,
                                        Tensor& dx, Tensor& dweight, Tensor& dbias) {
  cuda::dispatch_float(x.dtype(), [&]<class T>() {
    using namespace norms;
    Backward<T> a;
    a.dy = rows_of<T>(dy);
    a.x = rows_of<T>(x);
    a.dresidual = rows_of<T>(dresidual);
    a.weight = weight.data<T>();
    a.statistics = rows_of<float>(statistics);
    a.dx = rows_of<T>(dx);
    a.rows = x.rows();
    a.columns = columns_of(x);
    launch_backward<T, true>(a, dweight.data<float>(), dbias.data<float>());
  });
}

}  // namespace polyhead::ops::kernel
