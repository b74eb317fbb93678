#include "layers/conversion/latent_compression.h"

#include <cmath>

#include "framework/linear_algebra.h"
#include "layers/conversion/head_tensors.h"
#include "layers/conversion/latent_layer.h"

namespace polyhead {
namespace {

Tensor product(const Tensor& a, const Tensor& b) {
  Tensor result = Tensor::empty({a.rows(), b.cols()}, DType::kF64);
  ops::matmul(a, ops::Transpose::kNo, b, ops::Transpose::kNo, ops::Accumulate::kNo, result);
  return result;
}

Tensor transposed(const Tensor& a) {
  Tensor result = Tensor::empty({a.cols(), a.rows()}, DType::kF64);
  for (std::int64_t row = 0; row < a.rows(); ++row) {
    for (std::int64_t col = 0; col < a.cols(); ++col) {
      result.data<double>()[col * a.rows() + row] = a.data<double>()[row * a.row_stride() + col];
    }
  }
  return result;
}

void scale_column(Tensor& matrix, std::int64_t col, double factor) {
  for (std::int64_t row = 0; row < matrix.rows(); ++row) {
    matrix.data<double>()[row * matrix.row_stride() + col] *= factor;
  }
}

}  // namespace

InputCovariance damped(const Tensor& covariance) {
  constexpr double kDamping = 0.01;
  const std::int64_t size = covariance.rows();
  POLYHEAD_CHECK(covariance.cols() == size && covariance.dtype() == DType::kF64, "covariance {} {}",
                 covariance.shape().to_string(), name_of(covariance.dtype()));
  Tensor result = covariance.clone();
  double* const entries = result.data<double>();
  double trace = 0;
  for (std::int64_t i = 0; i < size; ++i) trace += entries[i * size + i];
  require(std::isfinite(trace) && trace > 0,
          "the attention's inputs have a mean square of {}; conversion needs a finite one greater "
          "than 0",
          trace / static_cast<double>(size));
  for (std::int64_t i = 0; i < size; ++i) {
    entries[i * size + i] += kDamping * trace / static_cast<double>(size);
  }
  return {covariance, cholesky(result, "the covariance of the attention's inputs")};
}

LowRank low_rank(const Tensor& w, std::int64_t rank, const InputCovariance& covariance,
                 const std::string& name) {
  const SingularValueDecomposition svd =
      singular_value_decomposition(product(w, covariance.factor), name);
  const double* const values = svd.values.data<double>();
  POLYHEAD_CHECK(1 <= rank && rank <= svd.values.numel(), "rank {} of {}", rank,
                 w.shape().to_string());
  LowRank result;
  result.up = svd.u.column_slice(0, rank).clone();
  Tensor rows = svd.vt.row_slice(0, rank).clone();
  for (std::int64_t i = 0; i < rank; ++i) {
    scale_column(result.up, i, std::sqrt(values[i]));
    copy_row(rows, i, std::sqrt(values[i]), rows, i);
  }
  result.down = transposed(
      solve_lower_triangular(covariance.factor, ops::Transpose::kYes, transposed(rows), name));
  double kept = 0, total = 0;
  for (std::int64_t i = 0; i < svd.values.numel(); ++i) {
    total += values[i] * values[i];
    if (i < rank) kept = total;
  }
  result.kept_energy = total > 0 ? kept / total : 1.0;
  result.singular_values = svd.values;
  return result;
}

void standardize_latent(const InputCovariance& covariance, LowRank& factors) {
  const SingularValueDecomposition svd =
      singular_value_decomposition(factors.down, "the down-projection");
  const std::int64_t rank = factors.down.rows();
  const double mean_square = squared_norm(svd.vt, covariance.measured) / static_cast<double>(rank);
  const double scale = mean_square > 0 ? 1.0 / std::sqrt(mean_square) : 1.0;
  Tensor mixing = svd.u.clone();
  for (std::int64_t i = 0; i < rank; ++i) {
    scale_column(mixing, i, svd.values.data<double>()[i] / scale);
    copy_row(svd.vt, i, scale, factors.down, i);
  }
  factors.up = product(factors.up, mixing);
}

}  // namespace polyhead
