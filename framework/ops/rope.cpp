#include "framework/ops/rope.h"

#include <cmath>

#include "framework/dispatch.h"

namespace polyhead::ops {

RopeTable make_rope_table(const std::vector<double>& inverse_frequencies, double amplitude,
                          std::int64_t positions, DType dtype) {
  const auto half = static_cast<std::int64_t>(inverse_frequencies.size());
  POLYHEAD_CHECK(half > 0 && positions > 0, "{} frequencies, {} positions", half, positions);
  RopeTable table{Tensor::empty({positions, half}, dtype), Tensor::empty({positions, half}, dtype)};
  dispatch_cpu_float(dtype, [&]<class T>() {
    T* const cos = table.cos.data<T>();
    T* const sin = table.sin.data<T>();
#pragma omp parallel for
    for (std::int64_t position = 0; position < positions; ++position) {
      for (std::int64_t j = 0; j < half; ++j) {
        // In f64 whatever the dtype: at long positions an f32 angle is off by whole degrees.
        const double angle =
            static_cast<double>(position) * inverse_frequencies[static_cast<std::size_t>(j)];
        cos[position * half + j] = static_cast<T>(amplitude * std::cos(angle));
        sin[position * half + j] = static_cast<T>(amplitude * std::sin(angle));
      }
    }
  });
  return table;
}

void check_rope(const RopeTable& table, std::int64_t sequence_length, const HeadView& x) {
  POLYHEAD_CHECK(
      table.cos.shape() == table.sin.shape() && table.cos.is_contiguous() &&
          table.sin.is_contiguous() && table.cos.dtype() == accumulation_dtype(x.columns.dtype()) &&
          table.cos.device() == x.columns.device(),
      "table cos {} {}, sin {}, x {}", table.cos.shape().to_string(), name_of(table.cos.dtype()),
      table.sin.shape().to_string(), name_of(x.columns.dtype()));
  POLYHEAD_CHECK(sequence_length > 0 && sequence_length <= table.cos.rows(),
                 "sequence of {} with a table of {} positions", sequence_length, table.cos.rows());
  POLYHEAD_CHECK(2 * table.cos.cols() <= x.head_dim &&
                     (x.heads - 1) * x.head_stride + x.head_dim <= x.columns.cols(),
                 "rotating {} dimensions of {} heads of {}, {} apart, in {} columns",
                 2 * table.cos.cols(), x.heads, x.head_dim, x.head_stride, x.columns.cols());
}

void rope(const RopeTable& table, std::int64_t sequence_length, Rotation rotation, HeadView& x) {
  check_rope(table, sequence_length, x);
  dispatch(x.columns.device(),
           [&]<Device D>() { kernel::rope<D>(table, sequence_length, rotation, x); });
}

}  // namespace polyhead::ops
