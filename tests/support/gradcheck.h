// Gradient checks in f64 against fourth-order central differences.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "tests/support/compare.h"

namespace polyhead::testing {

inline constexpr double kGradientTolerance = 1e-8;

// Collects (input, analytic gradient) pairs of one scalar function and checks them all. The error
// of a gradient is max|a - b| / max(max|b|, 1e-3 * the largest gradient of the check): a gradient
// that ought to be zero is not compared with its own noise.
class GradientCheck {
 public:
  // `input` is perturbed in place and restored; it may be a strided view. `analytic` has its shape.
  void add(std::string name, Tensor input, Tensor analytic) {
    POLYHEAD_CHECK(input.dtype() == DType::kF64, "{}: gradient checks run in f64", name);
    entries_.push_back({std::move(name), std::move(input), std::move(analytic)});
  }

  // `loss` recomputes the scalar from the current inputs.
  void expect_close(const std::function<double()>& loss, double tolerance = kGradientTolerance) {
    std::vector<Tensor> numeric;
    double largest = 0;
    for (Entry& entry : entries_) {
      numeric.push_back(differences(entry.input, loss));
      largest = std::max(largest, max_abs(numeric.back()));
    }
    EXPECT_GT(largest, 0) << "every gradient is zero: the check would pass for any backward";
    for (std::size_t i = 0; i < entries_.size(); ++i) {
      EXPECT_LE(relative_error(entries_[i].analytic, numeric[i], 1e-3 * largest), tolerance)
          << "gradient of " << entries_[i].name;
    }
  }

 private:
  struct Entry {
    std::string name;
    Tensor input;
    Tensor analytic;
  };

  static Tensor differences(Tensor& x, const std::function<double()>& loss) {
    constexpr double kStep = 1e-3;
    Tensor gradient = Tensor::empty(x.shape(), DType::kF64);
    for (std::int64_t row = 0; row < x.rows(); ++row) {
      for (std::int64_t col = 0; col < x.cols(); ++col) {
        double& element = x.data<double>()[row * x.row_stride() + col];
        const double original = element;
        const auto loss_at = [&](double offset) {
          element = original + offset;
          return loss();
        };
        const double near = loss_at(kStep) - loss_at(-kStep);
        const double far = loss_at(2 * kStep) - loss_at(-2 * kStep);
        element = original;
        gradient.data<double>()[row * gradient.row_stride() + col] =
            (8 * near - far) / (12 * kStep);
      }
    }
    return gradient;
  }

  std::vector<Entry> entries_;
};

// sum_ij weight_ij x_ij: turns a tensor into the scalar of a check; `weight` is then dx.
inline double weighted_sum(const Tensor& x, const Tensor& weight) {
  double sum = 0;
  for (std::int64_t row = 0; row < x.rows(); ++row) {
    for (std::int64_t col = 0; col < x.cols(); ++col) sum += at(x, row, col) * at(weight, row, col);
  }
  return sum;
}

}  // namespace polyhead::testing
