#include "layers/conversion/head_tensors.h"

#include <algorithm>

#include "framework/checkpoint/element_conversion.h"
#include "framework/ops/matmul.h"

namespace polyhead {
namespace {

using ops::Transpose;

Tensor product(const Tensor& a, const Tensor& b, Transpose transpose_b) {
  Tensor c =
      Tensor::empty({a.rows(), transpose_b == Transpose::kYes ? b.rows() : b.cols()}, DType::kF64);
  ops::matmul(a, Transpose::kNo, b, transpose_b, ops::Accumulate::kNo, c);
  return c;
}

// The matrix of a head where `heads` share `rotations`.
const Tensor& rotation_of(std::int64_t head, std::int64_t heads,
                          const std::vector<Tensor>& rotations) {
  const auto count = static_cast<std::int64_t>(rotations.size());
  return rotations[static_cast<std::size_t>(head / (heads / count))];
}

std::int64_t checked_heads(const Tensor& x, std::int64_t dimensions,
                           const std::vector<Tensor>& rotations) {
  const std::int64_t size = rotations.front().rows();
  const auto count = static_cast<std::int64_t>(rotations.size());
  POLYHEAD_CHECK(dimensions % (size * count) == 0, "{} in {} groups of heads of {}",
                 x.shape().to_string(), count, size);
  return dimensions / size;
}

}  // namespace

Tensor exact_copy(const Tensor& x) {
  return converted(x.clone(), DType::kF64);
}

Tensor rounded_copy(const Tensor& exact, DType dtype) {
  if (dtype == DType::kF64) return exact.clone();
  const Tensor source = exact.clone();
  Tensor target = Tensor::empty(exact.shape(), DType::kF32);
  std::transform(source.data<double>(), source.data<double>() + source.numel(),
                 target.data<float>(), [](double value) { return static_cast<float>(value); });
  return converted(target, dtype);
}

Tensor with_bias(const Tensor& weight, const Tensor& bias) {
  if (!bias) return weight;
  const std::int64_t columns = weight.cols();
  Tensor joined = Tensor::empty({weight.rows(), columns + 1}, DType::kF64);
  joined.column_slice(0, columns).copy_from(weight);
  joined.column_slice(columns, columns + 1).copy_from(bias.reshaped({weight.rows(), 1}));
  return joined;
}

Tensor rotated_rows(const Tensor& x, const std::vector<Tensor>& rotations) {
  const bool vector = x.shape().rank() == 1;
  const std::int64_t size = rotations.front().rows(), dimensions = x.shape()[0];
  const std::int64_t heads = checked_heads(x, dimensions, rotations);
  const Tensor source = vector ? x.reshaped({dimensions, 1}) : x;
  Tensor rotated = Tensor::empty(source.shape(), DType::kF64);
  for (std::int64_t head = 0; head < heads; ++head) {
    Tensor rows = rotated.row_slice(head * size, (head + 1) * size);
    ops::matmul(rotation_of(head, heads, rotations), Transpose::kNo,
                source.row_slice(head * size, (head + 1) * size), Transpose::kNo,
                ops::Accumulate::kNo, rows);
  }
  return vector ? rotated.reshaped({dimensions}) : rotated;
}

Tensor rotated_columns(const Tensor& x, const std::vector<Tensor>& rotations) {
  const std::int64_t size = rotations.front().rows();
  const std::int64_t heads = checked_heads(x, x.cols(), rotations);
  Tensor rotated = Tensor::empty(x.shape(), DType::kF64);
  for (std::int64_t head = 0; head < heads; ++head) {
    Tensor columns = rotated.column_slice(head * size, (head + 1) * size);
    ops::matmul(x.column_slice(head * size, (head + 1) * size), Transpose::kNo,
                rotation_of(head, heads, rotations), Transpose::kYes, ops::Accumulate::kNo,
                columns);
  }
  return rotated;
}

double squared_norm(const Tensor& w, const Tensor& metric) {
  const Tensor weighted = metric ? product(w, metric, Transpose::kNo) : w;
  double sum = 0;
  for (std::int64_t row = 0; row < w.rows(); ++row) {
    const double* a = w.data<double>() + row * w.row_stride();
    const double* b = weighted.data<double>() + row * weighted.row_stride();
    for (std::int64_t col = 0; col < w.cols(); ++col) sum += a[col] * b[col];
  }
  return std::max(sum, 0.0);
}

Tensor inner_products(const Tensor& w, const Tensor& metric) {
  return product(metric ? product(w, metric, Transpose::kNo) : w, w, Transpose::kYes);
}

}  // namespace polyhead
