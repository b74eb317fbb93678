#include "framework/dispatch.h"
#include "framework/ops/rope.h"
#include "framework/ops/rope_rotation_cpu.h"

namespace polyhead::ops::kernel {

template <>
void rope<Device::kCpu>(const RopeTable& table, std::int64_t sequence_length, Rotation rotation,
                        HeadView& x) {
  const std::int64_t rows = x.columns.rows(), stride = x.columns.row_stride();
  const std::int64_t half = table.cos.cols();
  dispatch_cpu_float(x.columns.dtype(), [&]<class T>() {
    const T direction = rotation == Rotation::kForward ? T(1) : T(-1);
    const T* const cos = table.cos.data<T>();
    const T* const sin = table.sin.data<T>();
    T* const data = x.columns.data<T>();
#pragma omp parallel for schedule(static)
    for (std::int64_t row = 0; row < rows; ++row) {
      const std::int64_t angles = row % sequence_length * half;
      for (std::int64_t head = 0; head < x.heads; ++head) {
        rotate(half, cos + angles, sin + angles, direction,
               data + row * stride + head * x.head_stride);
      }
    }
  });
}

}  // namespace polyhead::ops::kernel
