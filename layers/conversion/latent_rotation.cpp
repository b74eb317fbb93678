#include "layers/conversion/latent_rotation.h"

#include <cmath>
#include <complex>
#include <vector>

#include "framework/linear_algebra.h"

namespace polyhead {
namespace {

using Complex = std::complex<double>;
using ComplexVector = std::vector<Complex>;

Complex inner_product(const ComplexVector& a, const ComplexVector& b) {
  Complex sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::conj(a[i]) * b[i];
  return sum;
}

// Makes a vector of length one orthogonal to an orthonormal basis and of length one again. False,
// where next to nothing is left of it.
bool orthonormalize(const std::vector<ComplexVector>& basis, ComplexVector& vector) {
  constexpr double kNothing = 1e-4;
  // The second time removes what rounding left of a vector that became short.
  for (int time = 0; time < 2; ++time) {
    for (const ComplexVector& other : basis) {
      const Complex share = inner_product(other, vector);
      for (std::size_t i = 0; i < vector.size(); ++i) vector[i] -= share * other[i];
    }
    const double square = inner_product(vector, vector).real();
    if (square < kNothing) return false;
    for (Complex& entry : vector) entry /= std::sqrt(square);
  }
  return true;
}

struct PrincipalComponents {
  std::vector<ComplexVector> vectors;  // orthonormal, the largest energy first
  double energy = 0;                   // of all of them
  double total_energy = 0;
};

// Of complex z = a + i b in M dimensions, given the (2 M, 2 M) moments of [a | b].
PrincipalComponents principal_components(const Tensor& moments, std::int64_t count) {
  const std::int64_t size = moments.rows() / 2;
  const auto moment = [&](std::int64_t row, std::int64_t col) {
    return moments.data<double>()[row * 2 * size + col];
  };
  // E[z z^H] = real + i imaginary has the eigenvalues of [[real, -imaginary], [imaginary, real]],
  // which has each twice: of x + i y and of i times that.
  Tensor doubled = Tensor::empty_like(moments);
  const auto entry = [&](std::int64_t row, std::int64_t col) -> double& {
    return doubled.data<double>()[row * 2 * size + col];
  };
  PrincipalComponents result;
  for (std::int64_t row = 0; row < size; ++row) {
    for (std::int64_t col = 0; col < size; ++col) {
      const double real = moment(row, col) + moment(size + row, size + col);
      const double imaginary = moment(size + row, col) - moment(row, size + col);
      entry(row, col) = entry(size + row, size + col) = real;
      entry(size + row, col) = imaginary;
      entry(row, size + col) = -imaginary;
      if (row == col) result.total_energy += real;
    }
  }
  const SymmetricEigendecomposition eigen =
      symmetric_eigendecomposition(doubled, "the covariance of keys over their groups");
  for (std::int64_t i = 2 * size; i-- > 0 && std::ssize(result.vectors) < count;) {
    const double* const parts = eigen.vectors.data<double>() + i * 2 * size;
    ComplexVector vector;
    for (std::int64_t m = 0; m < size; ++m) vector.emplace_back(parts[m], parts[size + m]);
    if (!orthonormalize(result.vectors, vector)) continue;
    result.vectors.push_back(std::move(vector));
    result.energy += eigen.values.data<double>()[i];
  }
  POLYHEAD_CHECK(std::ssize(result.vectors) == count, "{} of {} components", result.vectors.size(),
                 count);
  return result;
}

// A pair of one group's key as a complex number: its two rows among those of k.
struct Pair {
  std::int64_t group, real, imaginary;
};

Tensor rows_of(const Tensor& matrix, const std::vector<Pair>& pairs) {
  const std::int64_t count = std::ssize(pairs);
  Tensor result = Tensor::empty({2 * count, matrix.cols()}, DType::kF64);
  for (std::int64_t i = 0; i < count; ++i) {
    const Pair& pair = pairs[static_cast<std::size_t>(i)];
    copy_row(matrix, pair.real, 1.0, result, i);
    copy_row(matrix, pair.imaginary, 1.0, result, count + i);
  }
  return result;
}

// Rows that hold the real and the imaginary part of one complex number.
struct ComplexRows {
  std::int64_t real, imaginary;
};

// target += factor * source
void add_rows(const Tensor& source, ComplexRows from, Complex factor, Tensor& target,
              ComplexRows to) {
  add_row(source, from.real, factor.real(), target, to.real);
  add_row(source, from.imaginary, -factor.imag(), target, to.real);
  add_row(source, from.real, factor.imag(), target, to.imaginary);
  add_row(source, from.imaginary, factor.real(), target, to.imaginary);
}

}  // namespace

RotaryFold rotary_fold(const GroupedHeads& heads, std::int64_t target_dim) {
  const std::int64_t rotary = heads.rotary_dim;
  const bool fewer = target_dim > 0 && rotary % target_dim == 0;
  const bool more =
      target_dim > 0 && target_dim % rotary == 0 && target_dim / rotary <= heads.groups;
  require(target_dim % 2 == 0 && (fewer || more),
          "--rope-dim {}: must be even and divide the {} rotated dimensions of a head, or be a "
          "multiple of them up to {} (one for each of {} groups); {} keeps one for all groups and "
          "is usual",
          target_dim, rotary, heads.groups * rotary, heads.groups, rotary);
  return fewer ? RotaryFold{rotary / target_dim, 1} : RotaryFold{1, target_dim / rotary};
}

SharedRotation gather_rotation(const GroupedLayer& layer, const GroupedHeads& heads,
                               const Tensor& covariance, std::int64_t target_dim) {
  const auto [fold, segments] = rotary_fold(heads, target_dim);
  const std::int64_t target_pairs = target_dim / 2, frequencies = target_pairs / segments;
  const std::int64_t hidden = layer.k.cols();
  SharedRotation result{
      .shared_key = Tensor::zeros({target_dim, hidden}, DType::kF64),
      .query_rope = Tensor::zeros({heads.heads * target_dim, hidden}, DType::kF64),
      .rest = layer.k.clone()};
  Tensor weighted = Tensor::empty_like(layer.k);
  ops::matmul(layer.k, ops::Transpose::kNo, covariance, ops::Transpose::kNo, ops::Accumulate::kNo,
              weighted);
  double kept = 0, total = 0;
  for (std::int64_t frequency = 0; frequency < frequencies; ++frequency) {
    std::vector<Pair> pairs;
    for (std::int64_t group = 0; group < heads.groups; ++group) {
      for (std::int64_t j = frequency * fold; j < (frequency + 1) * fold; ++j) {
        const std::int64_t row = group * heads.head_dim + j;
        pairs.push_back({group, row, row + heads.pairs()});
      }
    }
    const Tensor moments = [&] {
      const Tensor rows = rows_of(layer.k, pairs);
      Tensor product = Tensor::empty({rows.rows(), rows.rows()}, DType::kF64);
      ops::matmul(rows, ops::Transpose::kNo, rows_of(weighted, pairs), ops::Transpose::kYes,
                  ops::Accumulate::kNo, product);
      return product;
    }();
    const PrincipalComponents components = principal_components(moments, segments);
    kept += components.energy;
    total += components.total_energy;
    for (std::int64_t segment = 0; segment < segments; ++segment) {
      const std::int64_t real = segment * frequencies + frequency;
      const ComplexRows shared{real, target_pairs + real};
      const ComplexVector& mixing = components.vectors[static_cast<std::size_t>(segment)];
      for (std::size_t m = 0; m < pairs.size(); ++m) {
        const Pair& pair = pairs[m];
        add_rows(layer.k, {pair.real, pair.imaginary}, std::conj(mixing[m]), result.shared_key,
                 shared);
        for (std::int64_t i = 0; i < heads.heads_per_group(); ++i) {
          const std::int64_t head = pair.group * heads.heads_per_group() + i;
          const std::int64_t to_query = (head - pair.group) * heads.head_dim;
          add_rows(layer.q, {pair.real + to_query, pair.imaginary + to_query}, std::conj(mixing[m]),
                   result.query_rope,
                   {head * target_dim + shared.real, head * target_dim + shared.imaginary});
        }
      }
      for (std::size_t m = 0; m < pairs.size(); ++m) {
        add_rows(result.shared_key, shared, -mixing[m], result.rest,
                 {pairs[m].real, pairs[m].imaginary});
      }
    }
    if (std::ssize(pairs) > segments) continue;
    // All components are kept: the rest is zero but for rounding, which would be given a rank.
    for (const Pair& pair : pairs) {
      copy_row(result.rest, pair.real, 0.0, result.rest, pair.real);
      copy_row(result.rest, pair.imaginary, 0.0, result.rest, pair.imaginary);
    }
  }
  result.kept_energy = total > 0 ? kept / total : 1.0;
  return result;
}

}  // namespace polyhead
