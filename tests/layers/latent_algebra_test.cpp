// The parts of a conversion to latent attention, each against its definition.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "framework/ops/elementwise.h"
#include "framework/ops/matmul.h"
#include "layers/conversion/latent_compression.h"
#include "layers/conversion/latent_conversion.h"
#include "layers/conversion/latent_rotation.h"
#include "tests/support/compare.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::AllOf;
using testing::at;
using testing::error_of;
using ::testing::HasSubstr;
using testing::random_tensor;
using testing::relative_error;

Tensor product(const Tensor& a, const Tensor& b, ops::Transpose transpose = ops::Transpose::kNo) {
  const bool swapped = transpose == ops::Transpose::kYes;
  Tensor c = Tensor::empty({a.rows(), swapped ? b.rows() : b.cols()}, DType::kF64);
  ops::matmul(a, ops::Transpose::kNo, b, transpose, ops::Accumulate::kNo, c);
  return c;
}

double trace(const Tensor& a) {
  double sum = 0;
  for (std::int64_t i = 0; i < a.rows(); ++i) sum += at(a, i, i);
  return sum;
}

Tensor identity(std::int64_t size) {
  Tensor result = Tensor::zeros({size, size}, DType::kF64);
  for (std::int64_t i = 0; i < size; ++i) result.data<double>()[i * size + i] = 1.0;
  return result;
}

// E[x x^T] of strongly correlated inputs.
Tensor correlated_covariance(std::int64_t size) {
  Tensor mixing = random_tensor({size, size}, DType::kF64, "mixing");
  for (std::int64_t row = 0; row < size; ++row) {
    for (std::int64_t col = 0; col < size; ++col) {
      mixing.data<double>()[row * size + col] *= std::exp(-0.5 * static_cast<double>(col));
    }
  }
  return product(mixing, mixing, ops::Transpose::kYes);
}

// tr(e C e^T) of e = w - up down in the damped covariance.
double missed_energy(const Tensor& w, const LowRank& factors, const InputCovariance& covariance) {
  Tensor error = product(factors.up, factors.down);
  for (std::int64_t i = 0; i < w.numel(); ++i) error.data<double>()[i] -= w.data<double>()[i];
  const Tensor seen = product(error, covariance.factor);
  return trace(product(seen, seen, ops::Transpose::kYes));
}

TEST(LowRank, MissesTheEnergyOfTheTail) {
  const Tensor w = random_tensor({17, 13}, DType::kF64, "w");
  const InputCovariance covariance = damped(correlated_covariance(13));
  for (const std::int64_t rank : {1, 4, 12, 13}) {
    const LowRank factors = low_rank(w, rank, covariance, "w");
    double tail = 0, total = 0;
    for (std::int64_t i = 0; i < 13; ++i) {
      const double energy = std::pow(factors.singular_values.data<double>()[i], 2);
      total += energy;
      if (i >= rank) tail += energy;
    }
    EXPECT_NEAR(missed_energy(w, factors, covariance), tail, 1e-10 * (tail > 0 ? tail : total));
    EXPECT_NEAR(factors.kept_energy, 1 - tail / total, 1e-12);
    const Tensor seen = product(w, covariance.factor);
    EXPECT_NEAR(total, trace(product(seen, seen, ops::Transpose::kYes)), 1e-10 * total);
  }
  EXPECT_LE(
      relative_error(
          product(low_rank(w, 13, covariance, "w").up, low_rank(w, 13, covariance, "w").down), w),
      1e-12);
}

TEST(LowRank, KnowsTheInputs) {
  const Tensor w = random_tensor({17, 13}, DType::kF64, "w");
  const InputCovariance covariance = damped(correlated_covariance(13)),
                        blind = damped(identity(13));
  for (const std::int64_t rank : {1, 3, 6, 10}) {
    const double whitened = missed_energy(w, low_rank(w, rank, covariance, "w"), covariance);
    const double plain = missed_energy(w, low_rank(w, rank, blind, "w"), covariance);
    EXPECT_LT(whitened, 0.8 * plain) << rank;
  }
}

TEST(LowRank, DampingIsOneHundredthOfTheMean) {
  const Tensor covariance = correlated_covariance(7);
  const InputCovariance inputs = damped(covariance);
  const Tensor back = product(inputs.factor, inputs.factor, ops::Transpose::kYes);
  for (std::int64_t i = 0; i < 7; ++i) {
    EXPECT_NEAR(at(back, i, i) - at(covariance, i, i), 0.01 * trace(covariance) / 7, 1e-12);
    EXPECT_NEAR(at(back, i, (i + 1) % 7), at(covariance, i, (i + 1) % 7), 1e-12);
  }
  EXPECT_THAT(error_of([] {
                damped(Tensor::zeros({3, 3}, DType::kF64));
              }),
              HasSubstr("mean square of 0"));
}

TEST(StandardizedLatent, HasUnitSizeOrthogonalRowsAndTheSameProduct) {
  const Tensor w = random_tensor({17, 13}, DType::kF64, "w");
  const InputCovariance covariance = damped(correlated_covariance(13));
  LowRank factors = low_rank(w, 5, covariance, "w");
  const Tensor before = product(factors.up, factors.down);
  standardize_latent(covariance, factors);
  EXPECT_LE(relative_error(product(factors.up, factors.down), before), 1e-12);
  const Tensor lengths = product(factors.down, factors.down, ops::Transpose::kYes);
  for (std::int64_t row = 0; row < 5; ++row) {
    for (std::int64_t col = 0; col < 5; ++col) {
      EXPECT_NEAR(at(lengths, row, col), row == col ? at(lengths, 0, 0) : 0, 1e-12);
    }
  }
  EXPECT_NEAR(trace(product(product(factors.down, covariance.measured), factors.down,
                            ops::Transpose::kYes)),
              5.0, 1e-12);
}

constexpr GroupedHeads kHeads{.heads = 6, .groups = 3, .head_dim = 7, .rotary_dim = 4};
constexpr std::int64_t kHidden = 11;

GroupedLayer random_layer() {
  return {random_tensor({6 * 7, kHidden}, DType::kF64, "q"),
          random_tensor({3 * 7, kHidden}, DType::kF64, "k"),
          random_tensor({3 * 7, kHidden}, DType::kF64, "v")};
}

TEST(GatherRotation, MoreComponentsKeepMoreAndAllKeepAll) {
  const GroupedLayer layer = random_layer();
  const Tensor covariance = correlated_covariance(kHidden);
  double before = 0;
  for (const std::int64_t dim : {2, 4, 8, 12}) {
    const SharedRotation rotation = gather_rotation(layer, kHeads, covariance, dim);
    EXPECT_GT(rotation.kept_energy, before + 1e-3) << dim;
    before = rotation.kept_energy;
    for (std::int64_t row = 0; row < 21; ++row) {
      if (row % 7 >= 4 || dim == 12) {
        const Tensor rest = rotation.rest.row_slice(row, row + 1);
        const Tensor key = layer.k.row_slice(row, row + 1);
        EXPECT_EQ(relative_error(rest, row % 7 >= 4 ? key : Tensor::zeros_like(key), 1.0), 0);
      }
    }
  }
  EXPECT_NEAR(before, 1.0, 1e-12);
}

// What is kept and what is left share the energy: they are orthogonal under the covariance.
TEST(GatherRotation, TheRestHasTheRemainingEnergy) {
  const GroupedLayer layer = random_layer();
  const Tensor covariance = correlated_covariance(kHidden);
  const SharedRotation rotation = gather_rotation(layer, kHeads, covariance, 4);
  const auto energy = [&](const Tensor& rows, std::int64_t first, std::int64_t count) {
    double sum = 0;
    for (std::int64_t row = 0; row < rows.rows(); row += first + count) {
      const Tensor part = rows.row_slice(row, row + count);
      sum += trace(product(product(part, covariance), part, ops::Transpose::kYes));
    }
    return sum;
  };
  const double total = energy(layer.k, 3, 4), rest = energy(rotation.rest, 3, 4);
  EXPECT_NEAR(energy(rotation.shared_key, 0, 4) + rest, total, 1e-10 * total);
  EXPECT_NEAR(1 - rest / total, rotation.kept_energy, 1e-10);
}

// Groups that differ by a turn of each pair, which no score shows, need one shared key.
TEST(GatherRotation, FindsGroupsThatDifferByATurn) {
  GroupedLayer layer = random_layer();
  for (std::int64_t group = 1; group < 3; ++group) {
    for (std::int64_t j = 0; j < 2; ++j) {
      const double angle = 0.7 * static_cast<double>(group + 2 * j);
      const std::int64_t real = group * 7 + j, imaginary = real + 2;
      copy_row(layer.k, j, std::cos(angle), layer.k, real);
      add_row(layer.k, j + 2, -std::sin(angle), layer.k, real);
      copy_row(layer.k, j, std::sin(angle), layer.k, imaginary);
      add_row(layer.k, j + 2, std::cos(angle), layer.k, imaginary);
    }
  }
  EXPECT_NEAR(gather_rotation(layer, kHeads, correlated_covariance(kHidden), 4).kept_energy, 1.0,
              1e-12);
}

TEST(RotaryFold, TakesDivisorsAndMultiples) {
  EXPECT_EQ(rotary_fold(kHeads, 2).fold, 2);
  EXPECT_EQ(rotary_fold(kHeads, 4).fold, 1);
  EXPECT_EQ(rotary_fold(kHeads, 12).segments, 3);
  for (const std::int64_t dim : {-4, 0, 1, 3, 6, 16}) {
    EXPECT_THAT(error_of([&] { rotary_fold(kHeads, dim); }),
                AllOf(HasSubstr("--rope-dim " + std::to_string(dim)),
                      HasSubstr("divide the 4 rotated dimensions"), HasSubstr("up to 12")))
        << dim;
  }
}

}  // namespace
}  // namespace polyhead
