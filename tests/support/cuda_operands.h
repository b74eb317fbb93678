// Operands of CUDA ops in tests: in f64 on the host, for the CPU's op, and on the device.
#pragma once

#include "tests/support/cuda.h"
#include "tests/support/op_inputs.h"

namespace polyhead::testing {

// Where a matrix lies on the device: alone, or as columns of a wider one, at 16-byte borders or
// not.
struct Placement {
  std::int64_t before, after;  // other columns, NaN
};
inline constexpr Placement kAlone{0, 0}, kAligned{16, 32}, kUnaligned{3, 4};

// Shapes with their placements: the paths of 16 bytes and of single elements, one block and many.
struct Place {
  std::int64_t rows, columns;
  Placement placement;
};
inline constexpr Place kPlaces[] = {
    {13, 53, kUnaligned}, {13, 53, kAlone},    {1, 1, kAlone},        {37, 64, kAligned},
    {37, 64, kUnaligned}, {1003, 768, kAlone}, {517, 1096, kAligned},
};

// Rounding to nearest relative to the value, 2^-24 or 2^-8, with room for what was off before it.
inline double rounding(DType dtype) {
  return dtype == DType::kBf16 ? 1.1 * std::ldexp(1.0, -8) : 1e-6;
}

// A matrix whose values its dtype holds exactly.
class Operand {
 public:
  Operand(const Tensor& values, DType dtype, Placement placement)
      : begin_(placement.before), end_(placement.before + values.cols()) {
    Tensor wide = poisoned({values.rows(), end_ + placement.after}, values.dtype());
    Tensor columns = wide.column_slice(begin_, end_);
    columns.copy_from(values.reshaped(columns.shape()));
    wide_ = to_cuda(wide, dtype);
    device = wide_.column_slice(begin_, end_);
    const Tensor held = to_host(device);
    host = reference(held, [&](std::int64_t row, std::int64_t col) { return at(held, row, col); });
  }

  static Operand random(const Place& place, DType dtype, std::string_view name,
                        double scale = 1.0) {
    return {random_tensor({place.rows, place.columns}, DType::kF64, name, scale), dtype,
            place.placement};
  }
  // For a result.
  static Operand unwritten(const Place& place, DType dtype) {
    return {poisoned({place.rows, place.columns}, DType::kF64), dtype, place.placement};
  }

  // The device's matrix equals `want` and nothing was written beside it.
  void expect_close(const Tensor& want, double tolerance) const {
    EXPECT_LE(relative_error(to_host(device), want), tolerance);
    expect_surroundings_intact();
  }
  void expect_surroundings_intact() const {
    const Tensor wide = to_host(wide_);
    for (std::int64_t row = 0; row < wide.rows(); ++row) {
      for (std::int64_t col = 0; col < wide.cols(); ++col) {
        if (col >= begin_ && col < end_) continue;
        ASSERT_TRUE(std::isnan(at(wide, row, col))) << "row " << row << ", column " << col;
      }
    }
  }

  Tensor host;    // (rows, columns) f64
  Tensor device;  // (rows, columns)

 private:
  std::int64_t begin_, end_;
  Tensor wide_;
};

}  // namespace polyhead::testing
