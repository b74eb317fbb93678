#include "layers/conversion/head_alignment.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "framework/linear_algebra.h"
#include "framework/ops/matmul.h"

namespace polyhead {
namespace {

constexpr int kMostSweeps = 10;
constexpr double kSettled = 1e-10;  // of the members' own sum of squares

double& entry(Tensor& x, std::int64_t row, std::int64_t col) {
  return x.data<double>()[row * x.row_stride() + col];
}
double entry(const Tensor& x, std::int64_t row, std::int64_t col) {
  return x.data<double>()[row * x.row_stride() + col];
}

Tensor identity(std::int64_t size) {
  Tensor matrix = Tensor::zeros({size, size}, DType::kF64);
  for (std::int64_t i = 0; i < size; ++i) entry(matrix, i, i) = 1;
  return matrix;
}

// a op(b) for square matrices.
Tensor product(const Tensor& a, const Tensor& b, ops::Transpose transpose_b) {
  Tensor c = Tensor::empty({a.rows(), b.rows()}, DType::kF64);
  ops::matmul(a, ops::Transpose::kNo, b, transpose_b, ops::Accumulate::kNo, c);
  return c;
}

// W_m C W_n^T.
Tensor block(const Tensor& products, std::int64_t members, std::int64_t m, std::int64_t n) {
  const std::int64_t size = products.rows() / members;
  return products.row_slice(m * size, (m + 1) * size).column_slice(n * size, (n + 1) * size);
}

double trace(const Tensor& x) {
  double sum = 0;
  for (std::int64_t i = 0; i < x.rows(); ++i) sum += entry(x, i, i);
  return sum;
}

void rotate_pair(const Tensor& products, std::int64_t a, std::int64_t b, Tensor& rotation) {
  const double angle = std::atan2(entry(products, b, a) - entry(products, a, b),
                                  entry(products, a, a) + entry(products, b, b));
  entry(rotation, a, a) = entry(rotation, b, b) = std::cos(angle);
  entry(rotation, b, a) = std::sin(angle);
  entry(rotation, a, b) = -std::sin(angle);
}

void rotate_block(const Tensor& products, const std::vector<std::int64_t>& dimensions,
                  Tensor& rotation) {
  const auto size = static_cast<std::int64_t>(dimensions.size());
  const auto at = [&](std::int64_t i) { return dimensions[static_cast<std::size_t>(i)]; };
  Tensor among = Tensor::empty({size, size}, DType::kF64);
  for (std::int64_t i = 0; i < size; ++i) {
    for (std::int64_t j = 0; j < size; ++j) entry(among, i, j) = entry(products, at(i), at(j));
  }
  const auto svd = singular_value_decomposition(among, "aligning heads");
  const Tensor nearest = product(svd.u, svd.vt, ops::Transpose::kNo);
  for (std::int64_t i = 0; i < size; ++i) {
    for (std::int64_t j = 0; j < size; ++j) entry(rotation, at(i), at(j)) = entry(nearest, i, j);
  }
}

// The sum over n of R_n W_n C W_m^T.
Tensor pull_of_all(const Tensor& products, const std::vector<Tensor>& rotations, std::int64_t m) {
  const auto members = static_cast<std::int64_t>(rotations.size());
  Tensor sum = Tensor::zeros(rotations.front().shape(), DType::kF64);
  for (std::int64_t n = 0; n < members; ++n) {
    ops::matmul(rotations[static_cast<std::size_t>(n)], ops::Transpose::kNo,
                block(products, members, n, m), ops::Transpose::kNo, ops::Accumulate::kYes, sum);
  }
  return sum;
}

}  // namespace

std::int64_t RotationFreedom::dimensions() const {
  auto count = static_cast<std::int64_t>(2 * pairs.size());
  for (const auto& dimensions : blocks) count += static_cast<std::int64_t>(dimensions.size());
  return count;
}

RotationFreedom value_freedom(std::int64_t head_dim) {
  std::vector<std::int64_t> all(static_cast<std::size_t>(head_dim));
  std::iota(all.begin(), all.end(), 0);
  return {{}, {std::move(all)}};
}

RotationFreedom key_freedom(std::int64_t head_dim, std::int64_t rotary_dim,
                            const Tensor& query_norm, const Tensor& key_norm) {
  const auto weights = [&](std::int64_t dimension) {
    const auto of = [&](const Tensor& norm) { return norm ? norm.data<double>()[dimension] : 1.0; };
    return std::pair(of(query_norm), of(key_norm));
  };
  RotationFreedom freedom;
  const std::int64_t half = rotary_dim / 2;
  for (std::int64_t j = 0; j < half; ++j) {
    if (weights(j) == weights(j + half)) freedom.pairs.emplace_back(j, j + half);
  }
  std::map<std::pair<double, double>, std::vector<std::int64_t>> alike;
  for (std::int64_t j = rotary_dim; j < head_dim; ++j) alike[weights(j)].push_back(j);
  for (auto& [_, dimensions] : alike) freedom.blocks.push_back(std::move(dimensions));
  return freedom;
}

Tensor best_rotation(const Tensor& products, const RotationFreedom& freedom) {
  Tensor rotation = identity(products.rows());
  for (const auto& [a, b] : freedom.pairs) rotate_pair(products, a, b, rotation);
  for (const auto& dimensions : freedom.blocks) rotate_block(products, dimensions, rotation);
  return rotation;
}

MemberAlignment align_members(const Tensor& products, std::int64_t members,
                              const RotationFreedom& freedom) {
  MemberAlignment alignment;
  const std::int64_t first = medoid(products, members);
  for (std::int64_t m = 0; m < members; ++m) {
    alignment.rotations.push_back(best_rotation(block(products, members, first, m), freedom));
  }
  const double total = trace(products);
  for (int sweep = 0; sweep < kMostSweeps; ++sweep) {
    std::vector<Tensor> next;
    double mean_squared = 0;  // members * ||M||^2
    for (std::int64_t m = 0; m < members; ++m) {
      const Tensor pull = pull_of_all(products, alignment.rotations, m);
      mean_squared += trace(product(pull, alignment.rotations[static_cast<std::size_t>(m)],
                                    ops::Transpose::kYes)) /
                      static_cast<double>(members);
      next.push_back(best_rotation(pull, freedom));
    }
    alignment.objective.push_back(total - mean_squared);
    const std::size_t count = alignment.objective.size();
    if (count > 1 &&
        alignment.objective[count - 2] - alignment.objective[count - 1] <= kSettled * total) {
      break;
    }
    if (sweep + 1 < kMostSweeps) alignment.rotations = std::move(next);
  }
  return alignment;
}

std::int64_t medoid(const Tensor& products, std::int64_t members) {
  std::int64_t best = 0;
  double least = 0;
  for (std::int64_t m = 0; m < members; ++m) {
    double sum = 0;
    for (std::int64_t n = 0; n < members; ++n) {
      const double squared = inner_product(products, members, m, m) +
                             inner_product(products, members, n, n) -
                             2 * inner_product(products, members, m, n);
      sum += std::sqrt(std::max(squared, 0.0));
    }
    if (m == 0 || sum < least) {
      best = m;
      least = sum;
    }
  }
  return best;
}

double inner_product(const Tensor& products, std::int64_t members, std::int64_t m, std::int64_t n) {
  return trace(block(products, members, m, n));
}

Tensor rotated_products(const Tensor& products, const std::vector<Tensor>& rotations) {
  const auto members = static_cast<std::int64_t>(rotations.size());
  Tensor rotated = Tensor::empty(products.shape(), DType::kF64);
  for (std::int64_t m = 0; m < members; ++m) {
    for (std::int64_t n = 0; n < members; ++n) {
      const Tensor left = product(rotations[static_cast<std::size_t>(m)],
                                  block(products, members, m, n), ops::Transpose::kNo);
      block(rotated, members, m, n)
          .copy_from(product(left, rotations[static_cast<std::size_t>(n)], ops::Transpose::kYes));
    }
  }
  return rotated;
}

}  // namespace polyhead
