#include "optim/optimizer.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tests/support/compare.h"

namespace polyhead {
namespace {

// AdamW on one number, from the paper's algorithm.
struct Reference {
  double value, m = 0, v = 0;
  int t = 0;

  void step(double g, double rate, double decay, const ops::AdamwOptions& o) {
    ++t;
    m = o.beta1 * m + (1 - o.beta1) * g;
    v = o.beta2 * v + (1 - o.beta2) * g * g;
    const double corrected_m = m / (1 - std::pow(o.beta1, t));
    const double corrected_v = v / (1 - std::pow(o.beta2, t));
    value -= rate * (corrected_m / (std::sqrt(corrected_v) + o.epsilon) + decay * value);
  }
};

Tensor scale(double factor) {
  Tensor scale = Tensor::empty({1}, DType::kF64);
  scale.data<double>()[0] = factor;
  return scale;
}

TEST(AdamW, DecaysOnlyWhatDecays) {
  Parameter matrix = replicated_parameter("matrix", {3, 7}, 0, {});
  Parameter norm = replicated_parameter("norm", {5}, 0, {});
  Parameter last = replicated_parameter("last", {2, 3}, 0, {});
  matrix.decays = last.decays = true;
  ParameterStore store({&matrix, &norm, &last}, DType::kF64, Device::kCpu);
  store.initialize(3);
  const ops::AdamwOptions options{.beta1 = 0.8, .beta2 = 0.9, .epsilon = 1e-3, .weight_decay = 0.5};
  AdamW optimizer(store, options);

  std::vector<Reference> references;
  const std::vector<Parameter*> parameters = {&matrix, &norm, &last};
  for (Parameter* parameter : parameters) {
    for (std::int64_t i = 0; i < parameter->value.numel(); ++i) {
      references.push_back({parameter->value.data<double>()[i]});
    }
  }
  for (int step = 1; step <= 3; ++step) {
    std::size_t next = 0;
    for (Parameter* parameter : parameters) {
      parameter->grad.copy_from(testing::random_tensor(
          parameter->global_shape, DType::kF64, fmt::format("{}.{}", parameter->name, step)));
      for (std::int64_t i = 0; i < parameter->grad.numel(); ++i) {
        references[next++].step(0.25 * parameter->grad.data<double>()[i], 0.01 * step,
                                parameter->decays ? 0.5 : 0, options);
      }
    }
    optimizer.step(0.01 * step, scale(0.25));
  }
  EXPECT_EQ(optimizer.updates(), 3);
  std::size_t next = 0;
  for (Parameter* parameter : parameters) {
    for (std::int64_t i = 0; i < parameter->value.numel(); ++i) {
      EXPECT_NEAR(parameter->value.data<double>()[i], references[next++].value, 1e-13)
          << parameter->name;
    }
  }
}

TEST(AdamW, GoesOnBitwiseFromItsState) {
  const auto train = [](int steps, AdamW& optimizer, Parameter& parameter, int first) {
    for (int step = first; step < first + steps; ++step) {
      parameter.grad.copy_from(
          testing::random_tensor(parameter.global_shape, DType::kF32, fmt::format("g{}", step)));
      optimizer.step(1e-2, scale(1.0));
    }
  };
  Parameter whole = replicated_parameter("w", {11, 3}, 0, {}), part = whole, rest = whole;
  ParameterStore whole_store({&whole}, DType::kF32, Device::kCpu);
  ParameterStore part_store({&part}, DType::kF32, Device::kCpu);
  ParameterStore rest_store({&rest}, DType::kF32, Device::kCpu);
  whole_store.initialize(1);
  part_store.initialize(1);
  AdamW whole_run(whole_store, {}), part_run(part_store, {}), rest_run(rest_store, {});
  train(5, whole_run, whole, 0);
  train(2, part_run, part, 0);
  rest_store.values().copy_from(part_store.values());
  rest_run.first_moment().copy_from(part_run.first_moment());
  rest_run.second_moment().copy_from(part_run.second_moment());
  rest_run.set_updates(part_run.updates());
  train(3, rest_run, rest, 2);
  EXPECT_TRUE(testing::bitwise_equal(rest.value, whole.value));
  EXPECT_TRUE(testing::bitwise_equal(rest_run.second_moment(), whole_run.second_moment()));
}

}  // namespace
}  // namespace polyhead
