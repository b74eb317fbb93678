// The norms on CUDA against the CPU's in f64, which get the same inputs, rounded as the device
// stores them.
#include <gtest/gtest.h>

#include "framework/ops/normalization.h"
#include "tests/support/cuda.h"
#include "tests/support/op_inputs.h"

namespace polyhead::ops {
namespace {

using testing::bitwise_equal;
using testing::relative_error;
using testing::to_host;

constexpr double kEpsilon = 1e-5;
// Sums and statistics, which are f32 even where inputs are bf16: their products are exact.
constexpr double kF32Tolerance = 1e-5;
// Of what is rounded to bf16: half a unit in the last place of the largest element is 2^-9 of it;
// twice that leaves room for an element just above a power of two.
constexpr double kBf16Tolerance = 4e-3;

double tolerance_of(DType dtype) {
  return dtype == DType::kBf16 ? kBf16Tolerance : kF32Tolerance;
}

enum class Norm { kRms, kRmsOnePlus, kLayer };
enum class Layout { kContiguous, kAlignedSlice, kOddSlice };

struct Case {
  Norm norm;
  DType dtype;
  Layout layout;
  std::int64_t rows, columns;

  std::string name() const {
    return fmt::format("norm {} {} layout {} rows {} columns {}", static_cast<int>(norm),
                       name_of(dtype), static_cast<int>(layout), rows, columns);
  }
  Shape statistics_shape() const { return norm == Norm::kLayer ? Shape{rows, 2} : Shape{rows}; }
};

NormWeight form_of(Norm norm) {
  return norm == Norm::kRmsOnePlus ? NormWeight::kOnePlus : NormWeight::kPlain;
}

void forward(const Case& c, const Tensor& x, const Tensor& weight, const Tensor& bias,
             const Residual& residual, Tensor& y, Tensor& statistics) {
  if (c.norm == Norm::kLayer) {
    layer_norm_forward(x, weight, bias, kEpsilon, residual, y, statistics);
  } else {
    rms_norm_forward(x, weight, form_of(c.norm), kEpsilon, residual, y, statistics);
  }
}
void apply(const Case& c, const Tensor& x, const Tensor& weight, const Tensor& bias,
           const Tensor& statistics, Tensor& y) {
  if (c.norm == Norm::kLayer) {
    layer_norm_apply(x, weight, bias, statistics, y);
  } else {
    rms_norm_apply(x, weight, form_of(c.norm), statistics, y);
  }
}
void backward(const Case& c, const Tensor& dy, const Tensor& x, const Tensor& weight,
              const Tensor& statistics, const Tensor& dresidual, Tensor& dx, Tensor& dweight,
              Tensor& dbias) {
  if (c.norm == Norm::kLayer) {
    layer_norm_backward(dy, x, weight, statistics, dresidual, dx, dweight, dbias);
  } else {
    rms_norm_backward(dy, x, weight, form_of(c.norm), statistics, dresidual, dx, dweight);
  }
}

Tensor as_f64(const Tensor& host) {
  Tensor wide = Tensor::empty(host.shape(), DType::kF64);
  for (std::int64_t row = 0; row < host.rows(); ++row) {
    for (std::int64_t col = 0; col < host.cols(); ++col) {
      wide.data<double>()[row * host.cols() + col] = testing::at(host, row, col);
    }
  }
  return wide;
}

// Values that `dtype` holds exactly, in f32 on the host.
Tensor random_values(const Shape& shape, DType dtype, std::string_view name) {
  const Tensor x = testing::random_tensor(shape, DType::kF32, name);
  return dtype == DType::kBf16 ? testing::rounded_to_bf16(x) : x;
}

// A device matrix in the layout of the case: all columns of `whole`, or some between NaNs.
struct DeviceMatrix {
  DeviceMatrix(const Case& c) {
    const std::int64_t before = c.layout == Layout::kContiguous     ? 0
                                : c.layout == Layout::kAlignedSlice ? 16
                                                                    : 3;
    begin = before;
    whole =
        testing::to_cuda(testing::poisoned({c.rows, c.columns + 2 * before}, DType::kF32), c.dtype);
    view = before == 0 ? whole : whole.column_slice(before, before + c.columns);
  }
  DeviceMatrix(const Case& c, const Tensor& values) : DeviceMatrix(c) {
    view.copy_from(testing::to_cuda(values, c.dtype));
  }

  bool gaps_are_untouched() const {
    const Tensor all = to_host(whole);
    for (std::int64_t row = 0; row < all.rows(); ++row) {
      for (std::int64_t i = 0; i < begin; ++i) {
        if (!std::isnan(testing::at(all, row, i))) return false;
        if (!std::isnan(testing::at(all, row, all.cols() - 1 - i))) return false;
      }
    }
    return true;
  }

  Tensor whole, view;
  std::int64_t begin = 0;
};

bool same_bits(const Tensor& a, const Tensor& b) {
  return bitwise_equal(to_host(a), to_host(b));
}

// Inputs on the host, in f32.
struct Inputs {
  explicit Inputs(const Case& c)
      : x(random_values({c.rows, c.columns}, c.dtype, "x")),
        addend(random_values({c.rows, c.columns}, c.dtype, "addend")),
        dy(random_values({c.rows, c.columns}, c.dtype, "dy")),
        dresidual(random_values({c.rows, c.columns}, c.dtype, "dresidual")),
        weight(random_values({c.columns}, c.dtype, "weight")),
        bias(random_values({c.columns}, c.dtype, "bias")),
        begun(testing::random_tensor({c.columns}, DType::kF32, "begun")),
        sum(Tensor::empty_like(x)) {
    for (std::int64_t i = 0; i < x.numel(); ++i) {
      sum.data<float>()[i] = x.data<float>()[i] + addend.data<float>()[i];
    }
    if (c.dtype == DType::kBf16) sum = testing::rounded_to_bf16(sum);
  }

  Tensor x, addend, dy, dresidual, weight, bias;
  Tensor begun;  // what the gradients of the weights start from
  Tensor sum;    // x + addend as it is stored
};

void check_forward(const Case& c, const Inputs& in, bool with_addend) {
  SCOPED_TRACE(c.name() + (with_addend ? " with addend" : ""));
  const Tensor normed = as_f64(with_addend ? in.sum : in.x);
  Tensor expected = Tensor::empty_like(normed);
  Tensor expected_statistics = Tensor::empty(c.statistics_shape(), DType::kF64);
  forward(c, normed, as_f64(in.weight), as_f64(in.bias), {}, expected, expected_statistics);

  const Tensor weight = testing::to_cuda(in.weight, c.dtype);
  const Tensor bias = testing::to_cuda(in.bias, c.dtype);
  const DeviceMatrix x(c, in.x), addend(c, in.addend);
  DeviceMatrix sum(c), y(c);
  Tensor statistics = testing::poisoned(c.statistics_shape(), DType::kF32).to(Device::kCuda);
  const auto residual = [&](const Tensor& into) {
    return with_addend ? Residual{addend.view, into} : Residual{};
  };
  forward(c, x.view, weight, bias, residual(sum.view), y.view, statistics);
  EXPECT_LE(relative_error(to_host(y.view), expected), tolerance_of(c.dtype));
  EXPECT_LE(relative_error(to_host(statistics), expected_statistics), kF32Tolerance);
  EXPECT_TRUE(y.gaps_are_untouched() && sum.gaps_are_untouched());
  EXPECT_TRUE(!with_addend || bitwise_equal(to_host(sum.view), in.sum));

  // Remade into another layout, by other threads.
  Tensor remade = testing::to_cuda(testing::poisoned({c.rows, c.columns}, DType::kF32), c.dtype);
  apply(c, with_addend ? sum.view : x.view, weight, bias, statistics, remade);
  EXPECT_TRUE(same_bits(remade, y.view));

  DeviceMatrix in_place(c, in.x), again(c);
  Tensor& target = with_addend ? again.view : in_place.view;
  forward(c, in_place.view, weight, bias, residual(in_place.view), target, statistics);
  EXPECT_TRUE(same_bits(target, y.view)) << "in place of x";
  if (with_addend) {
    EXPECT_TRUE(same_bits(in_place.view, sum.view));
    DeviceMatrix other(c, in.addend);
    forward(c, x.view, weight, bias, Residual{other.view, other.view}, again.view, statistics);
    EXPECT_TRUE(same_bits(again.view, y.view) && same_bits(other.view, sum.view))
        << "in place of the addend";
  }
}

void check_backward(const Case& c, const Inputs& in, bool with_dresidual) {
  SCOPED_TRACE(c.name() + (with_dresidual ? " with dresidual" : ""));
  const Tensor x64 = as_f64(in.x), weight64 = as_f64(in.weight);
  Tensor y = Tensor::empty_like(x64), expected = Tensor::empty_like(x64);
  Tensor statistics64 = Tensor::empty(c.statistics_shape(), DType::kF64);
  forward(c, x64, weight64, as_f64(in.bias), {}, y, statistics64);
  Tensor expected_dweight = as_f64(in.begun), expected_dbias = as_f64(in.begun);
  backward(c, as_f64(in.dy), x64, weight64, statistics64,
           with_dresidual ? as_f64(in.dresidual) : Tensor{}, expected, expected_dweight,
           expected_dbias);

  const Tensor weight = testing::to_cuda(in.weight, c.dtype);
  const Tensor statistics = testing::to_cuda(statistics64, DType::kF32);
  const DeviceMatrix dy(c, in.dy), x(c, in.x), dresidual(c, in.dresidual);
  const Tensor beside = with_dresidual ? dresidual.view : Tensor{};
  struct Gradients {
    Tensor dweight, dbias;
  };
  const auto run = [&](const Tensor& upstream, const Tensor& residual, Tensor& dx) {
    Gradients gradients{in.begun.to(Device::kCuda), in.begun.to(Device::kCuda)};
    backward(c, upstream, x.view, weight, statistics, residual, dx, gradients.dweight,
             gradients.dbias);
    return gradients;
  };
  DeviceMatrix dx(c);
  const Gradients gradients = run(dy.view, beside, dx.view);
  EXPECT_LE(relative_error(to_host(dx.view), expected), tolerance_of(c.dtype));
  EXPECT_LE(relative_error(to_host(gradients.dweight), expected_dweight), kF32Tolerance);
  EXPECT_LE(relative_error(to_host(gradients.dbias), expected_dbias), kF32Tolerance);
  EXPECT_TRUE(dx.gaps_are_untouched());

  DeviceMatrix in_place(c, in.dy);
  const Gradients again = run(in_place.view, beside, in_place.view);
  EXPECT_TRUE(same_bits(in_place.view, dx.view)) << "in place of dy";
  EXPECT_TRUE(same_bits(again.dweight, gradients.dweight));
  EXPECT_TRUE(same_bits(again.dbias, gradients.dbias));
  if (with_dresidual) {
    DeviceMatrix other(c, in.dresidual);
    run(dy.view, other.view, other.view);
    EXPECT_TRUE(same_bits(other.view, dx.view)) << "in place of dresidual";
  }
}

class NormsCuda : public ::testing::TestWithParam<std::tuple<DType, std::int64_t>> {};

TEST_P(NormsCuda, MatchDoubleOnTheCpu) {
  const auto [dtype, columns] = GetParam();
  for (const Layout layout : {Layout::kContiguous, Layout::kAlignedSlice, Layout::kOddSlice}) {
    for (const std::int64_t rows : {1, 37}) {
      const Inputs inputs({Norm::kRms, dtype, layout, rows, columns});
      for (const Norm norm : {Norm::kRms, Norm::kRmsOnePlus, Norm::kLayer}) {
        const Case c{norm, dtype, layout, rows, columns};
        for (const bool with_residual : {false, true}) {
          check_forward(c, inputs, with_residual);
          check_backward(c, inputs, with_residual);
        }
      }
    }
  }
}

// More rows than the device works on at once, where they are long.
TEST_P(NormsCuda, WalkOverManyRows) {
  const auto [dtype, columns] = GetParam();
  constexpr std::int64_t kRows = 3000;
  const Inputs inputs({Norm::kRms, dtype, Layout::kContiguous, kRows, columns});
  for (const Norm norm : {Norm::kRms, Norm::kLayer}) {
    const Case c{norm, dtype, Layout::kContiguous, kRows, columns};
    check_forward(c, inputs, true);
    check_backward(c, inputs, true);
  }
}

INSTANTIATE_TEST_SUITE_P(Widths, NormsCuda,
                         ::testing::Combine(::testing::Values(DType::kF32, DType::kBf16),
                                            ::testing::Values(5, 64, 67, 256, 344, 520, 768, 2048,
                                                              5000)));

// Rows of four words a thread and, in f32, rows too long for that.
TEST(NormsCuda, TakeLongRows) {
  for (const DType dtype : {DType::kF32, DType::kBf16}) {
    for (const std::int64_t columns : {8192, 16384, 16392, 40000}) {
      const Inputs inputs({Norm::kRms, dtype, Layout::kContiguous, 3, columns});
      for (const Norm norm : {Norm::kRms, Norm::kLayer}) {
        const Case c{norm, dtype, Layout::kContiguous, 3, columns};
        check_forward(c, inputs, true);
        check_backward(c, inputs, true);
      }
    }
  }
}

TEST(NormsCuda, TakeNoRows) {
  for (const Norm norm : {Norm::kRms, Norm::kLayer}) {
    const Case c{norm, DType::kF32, Layout::kContiguous, 0, 64};
    const Tensor weight = testing::ones({64}, DType::kF32).to(Device::kCuda);
    const Tensor x = Tensor::empty({0, 64}, DType::kF32, Device::kCuda);
    Tensor y = Tensor::empty_like(x), dx = Tensor::empty_like(x);
    Tensor statistics = Tensor::empty(c.statistics_shape(), DType::kF32, Device::kCuda);
    Tensor dweight = weight.clone(), dbias = weight.clone();
    forward(c, x, weight, weight, {}, y, statistics);
    backward(c, x, x, weight, statistics, {}, dx, dweight, dbias);
    EXPECT_TRUE(same_bits(dweight, weight) && same_bits(dbias, weight));
  }
}

// The sums that wait in registers over many rows and, for heads, over several teams of a block.
TEST(NormsCuda, SumsOfManyShortRows) {
  for (const std::int64_t columns : {8, 96, 128}) {
    const Case c{Norm::kRms, DType::kBf16, Layout::kAlignedSlice, 20011, columns};
    const Inputs inputs(c);
    check_forward(c, inputs, false);
    check_backward(c, inputs, false);
  }
}

}  // namespace
}  // namespace polyhead::ops
