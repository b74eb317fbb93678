#include <algorithm>

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"

namespace polyhead::ops::kernel {
namespace {

template <class T>
T* head_row(HeadView& view, std::int64_t row, std::int64_t head) {
  return view.columns.data<T>() + row * view.columns.row_stride() + head * view.head_stride;
}

template <class T>
const T* head_row(const HeadView& view, std::int64_t row, std::int64_t head) {
  return view.columns.data<T>() + row * view.columns.row_stride() + head * view.head_stride;
}

template <class T>
void scatter(const HeadView& own, const Tensor& shared, HeadView& key) {
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < shared.rows(); ++row) {
    const T* tail = shared.data<T>() + row * shared.row_stride();
    for (std::int64_t head = 0; head < key.heads; ++head) {
      T* to = std::copy_n(head_row<T>(own, row, head), own.head_dim, head_row<T>(key, row, head));
      std::copy_n(tail, shared.cols(), to);
    }
  }
}

template <class T>
void gather(const HeadView& dkey, HeadView& d_own, Tensor& dshared) {
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < dshared.rows(); ++row) {
    T* tail = dshared.data<T>() + row * dshared.row_stride();
    std::fill_n(tail, dshared.cols(), T(0));
    for (std::int64_t head = 0; head < dkey.heads; ++head) {
      const T* from = head_row<T>(dkey, row, head);
      std::copy_n(from, d_own.head_dim, head_row<T>(d_own, row, head));
      for (std::int64_t i = 0; i < dshared.cols(); ++i) tail[i] += from[d_own.head_dim + i];
    }
  }
}

}  // namespace

template <>
void LatentKeys<Device::kCpu>::forward(const HeadView& own, const Tensor& shared, HeadView& key) {
  dispatch_cpu_float(shared.dtype(), [&]<class T>() { scatter<T>(own, shared, key); });
}

template <>
void LatentKeys<Device::kCpu>::backward(const HeadView& dkey, HeadView& d_own, Tensor& dshared) {
  dispatch_cpu_float(dshared.dtype(), [&]<class T>() { gather<T>(dkey, d_own, dshared); });
}

}  // namespace polyhead::ops::kernel
