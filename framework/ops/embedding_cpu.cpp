#include <omp.h>

#include <algorithm>

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"
#include "framework/ops/parallel.h"
#include "framework/ops/simd.h"

namespace polyhead::ops::kernel {

using simd::Vector;

template <>
void Embedding<Device::kCpu>::forward(const Tensor& ids, const Tensor& table, std::int64_t first_id,
                                      std::int64_t valid_rows, double factor, Tensor& y) {
  dispatch_cpu_float(table.dtype(), [&]<class T>() {
    const std::int32_t* id = ids.data<std::int32_t>();
    const T* entries = table.data<T>();
    T* output = y.data<T>();
    const Vector<T> multiplier(static_cast<T>(factor));
    parallel_pieces(y.rows(), y.numel(), [&](std::int64_t token) {
      T* to = output + token * y.row_stride();
      const std::int64_t row = id[token] - first_id;
      if (row < 0 || row >= valid_rows) {
        std::fill_n(to, y.cols(), T(0));
        return;
      }
      const T* from = entries + row * table.row_stride();
      simd::for_each<T>(y.cols(), [&](std::int64_t i, auto lanes) {
        simd::store(simd::load(from + i, lanes) * multiplier, to + i, lanes);
      });
    });
  });
}

// Each thread adds all tokens to its own columns: whatever the number of threads, an element gets
// its summands in the order of the tokens.
template <>
void Embedding<Device::kCpu>::backward(const Tensor& dy, const Tensor& ids, std::int64_t first_id,
                                       std::int64_t valid_rows, double factor, Tensor& dtable) {
  dispatch_cpu_float(dy.dtype(), [&]<class T>() {
    const std::int32_t* id = ids.data<std::int32_t>();
    const T* gradient = dy.data<T>();
    T* entries = dtable.data<T>();
    const Vector<T> multiplier(static_cast<T>(factor));
    constexpr std::int64_t kCacheLine = 64 / sizeof(T);
    const std::int64_t lines = (dy.cols() + kCacheLine - 1) / kCacheLine;
    const std::int64_t threads = omp_get_max_threads();
    const std::int64_t width = (lines + threads - 1) / threads * kCacheLine;
    parallel_pieces((dy.cols() + width - 1) / width, dy.numel(), [&](std::int64_t piece) {
      const std::int64_t begin = piece * width;
      const std::int64_t count = std::min(width, dy.cols() - begin);
      for (std::int64_t token = 0; token < dy.rows(); ++token) {
        const std::int64_t row = id[token] - first_id;
        if (row < 0 || row >= valid_rows) continue;
        const T* from = gradient + token * dy.row_stride() + begin;
        T* to = entries + row * dtable.row_stride() + begin;
        simd::for_each<T>(count, [&](std::int64_t i, auto lanes) {
          simd::store(
              xsimd::fma(simd::load(from + i, lanes), multiplier, simd::load(to + i, lanes)),
              to + i, lanes);
        });
      }
    });
  });
}

}  // namespace polyhead::ops::kernel
