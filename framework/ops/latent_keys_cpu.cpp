#include <algorithm>

#include "framework/dispatch.h"
#include "framework/ops/kernels.h"
#include "framework/ops/rope_rotation_cpu.h"

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
void rotate_row(const RopeTable& table, std::int64_t position, T direction, T* x) {
  const std::int64_t half = table.cos.cols();
  rotate(half, table.cos.data<T>() + position * half, table.sin.data<T>() + position * half,
         direction, x);
}

template <class T>
void scatter(const HeadView& own, const Tensor& shared, const RopeTable& table,
             std::int64_t sequence_length, HeadView& key) {
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < shared.rows(); ++row) {
    T* const first = head_row<T>(key, row, 0) + own.head_dim;
    std::copy_n(shared.data<T>() + row * shared.row_stride(), shared.cols(), first);
    rotate_row(table, row % sequence_length, T(1), first);
    for (std::int64_t head = 0; head < key.heads; ++head) {
      T* to = std::copy_n(head_row<T>(own, row, head), own.head_dim, head_row<T>(key, row, head));
      if (head > 0) std::copy_n(first, shared.cols(), to);
    }
  }
}

template <class T>
void gather(const HeadView& dkey, const RopeTable& table, std::int64_t sequence_length,
            HeadView& d_own, Tensor& dshared) {
#pragma omp parallel for schedule(static)
  for (std::int64_t row = 0; row < dshared.rows(); ++row) {
    T* tail = dshared.data<T>() + row * dshared.row_stride();
    std::fill_n(tail, dshared.cols(), T(0));
    for (std::int64_t head = 0; head < dkey.heads; ++head) {
      const T* from = head_row<T>(dkey, row, head);
      std::copy_n(from, d_own.head_dim, head_row<T>(d_own, row, head));
      for (std::int64_t i = 0; i < dshared.cols(); ++i) tail[i] += from[d_own.head_dim + i];
    }
    rotate_row(table, row % sequence_length, T(-1), tail);
  }
}

}  // namespace

template <>
void LatentKeys<Device::kCpu>::forward(const HeadView& own, const Tensor& shared,
                                       const RopeTable& table, std::int64_t sequence_length,
                                       HeadView& key) {
  dispatch_cpu_float(shared.dtype(),
                     [&]<class T>() { scatter<T>(own, shared, table, sequence_length, key); });
}

template <>
void LatentKeys<Device::kCpu>::backward(const HeadView& dkey, const RopeTable& table,
                                        std::int64_t sequence_length, HeadView& d_own,
                                        Tensor& dshared) {
  dispatch_cpu_float(dshared.dtype(),
                     [&]<class T>() { gather<T>(dkey, table, sequence_length, d_own, dshared); });
}

}  // namespace polyhead::ops::kernel
