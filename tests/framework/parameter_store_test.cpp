// Sums of gradients that begin empty, over buffers in which what nobody may read is NaN.
#include "framework/parameters/parameter_store.h"

#include <gtest/gtest.h>

#include <cmath>

#include "framework/ops/elementwise.h"
#include "framework/random.h"
#include "tests/support/compare.h"
#include "tests/support/poisoned_gradients.h"

namespace polyhead {
namespace {

using testing::at;
using testing::bitwise_equal;

constexpr std::int64_t kTokens = 11, kIn = 5;

// Two weights that are multiplied as one, a vector behind them and one more matrix.
struct Toy {
  explicit Toy(DType dtype = DType::kF64)
      : joined{replicated_parameter("q", {3, kIn}, 0, {}),
               replicated_parameter("k", {2, kIn}, 0, {})},
        norm(replicated_parameter("norm", {7}, 0, {})),
        table(replicated_parameter("table", {4, kIn}, 0, {})),
        store(pointers(), dtype, Device::kCpu) {}

  std::vector<Parameter*> pointers() {
    joined[1].joins_previous = true;
    return {&joined[0], &joined[1], &norm, &table};
  }
  void add_product(std::string_view name) {
    add_weight_grad(random(kTokens, 5, name), random(kTokens, kIn, "x"), joined);
  }
  void add_to_table() { ops::add_to(random(4, kIn, "dtable"), grad_to_add_to(table)); }
  void add_product_to_table() {
    add_weight_grad(random(kTokens, 4, "dlogits"), random(kTokens, kIn, "h"), {&table, 1});
  }
  Tensor random(std::int64_t rows, std::int64_t columns, std::string_view name) const {
    return testing::random_tensor({rows, columns}, store.values().dtype(), name);
  }

  std::vector<Parameter> joined;
  Parameter norm, table;
  ParameterStore store;
};

class GradientSums : public ::testing::TestWithParam<DType> {
 protected:
  // `add` gives over poisoned memory what it gives where everything begins as zeros.
  template <class Add>
  static void expect_sums(Add add) {
    Toy zeros(GetParam()), poisoned(GetParam());
    testing::zero_poisoned_grads(poisoned.store);
    add(zeros);
    add(poisoned);
    EXPECT_TRUE(bitwise_equal(poisoned.store.grads(), zeros.store.grads()));
  }
};

TEST_P(GradientSums, BeginWithAProduct) {
  expect_sums([](Toy& toy) { toy.add_product("first"); });
}

TEST_P(GradientSums, GrowByLaterProducts) {
  expect_sums([](Toy& toy) {
    for (const char* name : {"first", "second", "third"}) toy.add_product(name);
  });
}

TEST_P(GradientSums, GrowByWhatOnlyAdds) {
  expect_sums([](Toy& toy) {
    toy.add_to_table();
    toy.add_to_table();
  });
}

TEST_P(GradientSums, TakeProductsAndOtherOpsInAnyOrder) {
  expect_sums([](Toy& toy) {
    toy.add_product_to_table();
    toy.add_to_table();
  });
  expect_sums([](Toy& toy) {
    toy.add_to_table();
    toy.add_product_to_table();
  });
}

TEST_P(GradientSums, AreZerosWhereNothingWasAdded) {
  expect_sums([](Toy&) {});
}

TEST_P(GradientSums, GrowByProductsWhereOnePartWasRead) {
  expect_sums([](Toy& toy) {
    toy.store.grads({0, 3 * kIn});
    toy.add_product("first");
  });
}

INSTANTIATE_TEST_SUITE_P(Types, GradientSums, ::testing::Values(DType::kF64, DType::kF32),
                         [](const auto& test) { return std::string(name_of(test.param)); });

// Normal numbers come in pairs, which a slice may begin or end within.
TEST(InitialValues, OfASliceAreThoseOfTheWhole) {
  constexpr std::int64_t kRows = 5, kColumns = 7;
  const Shape shape = {kRows, kColumns};
  const std::uint64_t seed = 3, stream = stream_id("weight");
  for (const int dim : {0, 1}) {
    for (const std::int64_t begin : {0, 1, 2}) {
      const std::int64_t end = begin + 3;
      const Parameter slice = sharded_parameter("weight", shape, dim, begin, end, {});
      const Tensor value = initial_value(slice, seed, DType::kF64);
      for (std::int64_t row = 0; row < value.rows(); ++row) {
        for (std::int64_t column = 0; column < value.cols(); ++column) {
          const std::int64_t whole_row = row + (dim == 0 ? begin : 0);
          const std::int64_t whole_column = column + (dim == 1 ? begin : 0);
          const auto index = static_cast<std::uint64_t>(whole_row * kColumns + whole_column);
          EXPECT_EQ(at(value, row, column), 0.02 * normal(seed, stream, index));
        }
      }
    }
  }
}

TEST(ParameterStore, PlacesVectorsBeforeMatrices) {
  const Toy toy;
  EXPECT_EQ(toy.store.placed_segments().front().parameter, &toy.norm);
  EXPECT_NE(toy.store.segments().front().parameter, &toy.norm) << "their order stays";
  std::int64_t end = 0;
  for (const Segment& segment : toy.store.placed_segments()) {
    EXPECT_GE(segment.begin, end);
    end = segment.begin + segment.size;
  }
  EXPECT_EQ(toy.store.placed_segments().size(), toy.store.segments().size());
  EXPECT_LE(end, toy.store.size());
}

TEST(EmptyGradients, CostNoPassOverMatrices) {
  Toy toy;
  testing::zero_poisoned_grads(toy.store);
  for (const Segment& segment : toy.store.segments()) {
    const bool vector = segment.parameter == &toy.norm;
    const Tensor& grad = segment.parameter->grad;
    EXPECT_EQ(segment.parameter->grad_is_empty, !vector) << segment.parameter->name;
    EXPECT_EQ(std::isnan(at(grad, grad.rows() - 1, grad.cols() - 1)), !vector);
  }
}

TEST(EmptyGradients, BecomeZerosWhereTheyAreRead) {
  Toy toy;
  testing::zero_poisoned_grads(toy.store);
  const Segment& last = toy.store.segments().back();
  const Tensor read = toy.store.grads({last.begin, last.begin + last.size});
  EXPECT_TRUE(bitwise_equal(read, Tensor::zeros(read.shape(), read.dtype())));
  EXPECT_FALSE(toy.table.grad_is_empty);
  EXPECT_TRUE(toy.joined[0].grad_is_empty && toy.joined[1].grad_is_empty);
}

}  // namespace
}  // namespace polyhead
