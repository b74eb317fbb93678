#include "optim/gradients.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "framework/comm/thread_communicator.h"
#include "tests/support/compare.h"

namespace polyhead {
namespace {

using ::testing::HasSubstr;

constexpr std::int64_t kWidth = 6;

// A rank's share of a made-up model, cut as the real ones are: a matrix with padded rows, a
// replicated norm whose copies are partial, and keys that two neighbouring ranks each hold a copy
// of.
struct Share {
  Share(const Communicator& world, int tensor_ranks)
      : data(world.split(world.rank() % tensor_ranks)),
        tensor(world.split(world.rank() / tensor_ranks)),
        replicas(tensor->split(tensor->rank() / std::min(2, tensor_ranks))) {
    const int rank = tensor->rank();
    // 13 rows in shares of 4 on four ranks, the last of which has a single row.
    const std::int64_t rows = (13 + tensor_ranks - 1) / tensor_ranks;
    matrix = sharded_parameter("matrix", {13, kWidth}, 0, std::min<std::int64_t>(13, rank * rows),
                               std::min<std::int64_t>(13, (rank + 1) * rows), {}, rows);
    norm = replicated_parameter("norm", {5}, rank, {});
    norm.partial_over = tensor.get();
    const int sets = tensor_ranks / replicas->size();
    const int set = rank / replicas->size();
    keys = sharded_parameter("keys", {4, kWidth}, 0, set * 4 / sets, (set + 1) * 4 / sets, {});
    keys.owner = replicas->rank() == 0;
    keys.partial_over = replicas.get();
  }

  std::unique_ptr<Communicator> data, tensor, replicas;
  Parameter matrix, norm, keys;
};

// What one rank adds to a whole gradient; the sum over contributors is what every copy must hold.
Tensor contribution(const Parameter& parameter, int data_rank, int copy) {
  return testing::random_tensor(parameter.global_shape, DType::kF64,
                                fmt::format("{}.{}.{}", parameter.name, data_rank, copy));
}

Tensor rows_of(const Parameter& parameter, const Tensor& whole) {
  return parameter.is_sharded() ? whole.row_slice(parameter.shard_begin, parameter.shard_end)
                                : whole;
}

// Fills a gradient, sums it, and compares with the sum of all contributions. Adds the whole sum's
// squares to `squares`.
class Expectation {
 public:
  Expectation(const Share& share, const Parameter& parameter) : share_(share), p_(parameter) {}

  void contribute() const {
    const int copy = p_.partial_over ? p_.partial_over->rank() : 0;
    Tensor grad = p_.grad;
    valid_part(p_, grad).copy_from(rows_of(p_, contribution(p_, share_.data->rank(), copy)));
  }

  double expect_sum() const {
    Tensor sum = Tensor::zeros(p_.global_shape, DType::kF64);
    for (int data_rank = 0; data_rank < share_.data->size(); ++data_rank) {
      for (int copy = 0; copy < (p_.partial_over ? p_.partial_over->size() : 1); ++copy) {
        const Tensor part = contribution(p_, data_rank, copy);
        for (std::int64_t i = 0; i < sum.numel(); ++i) {
          sum.data<double>()[i] += part.data<double>()[i];
        }
      }
    }
    EXPECT_LT(testing::relative_error(valid_part(p_, p_.grad), rows_of(p_, sum)), 1e-14) << p_.name;
    double squares = 0;
    for (std::int64_t i = 0; i < sum.numel(); ++i) squares += std::pow(sum.data<double>()[i], 2);
    return squares;
  }

 private:
  const Share& share_;
  const Parameter& p_;
};

TEST(Gradients, SumAndNormCountEveryEntryOnce) {
  for (int tensor_ranks : {1, 2, 4}) {
    for (int data_ranks : {1, 2}) {
      run_on_threads(tensor_ranks * data_ranks, [&](const Communicator& world) {
        Share share(world, tensor_ranks);
        ParameterStore store({&share.matrix, &share.norm, &share.keys}, DType::kF64, Device::kCpu);
        double squares = 0;
        const Expectation all[] = {{share, share.matrix}, {share, share.norm}, {share, share.keys}};
        for (const Expectation& one : all) one.contribute();
        sum_gradients(store, *share.data);
        for (const Expectation& one : all) squares += one.expect_sum();
        const Tensor norm = squared_gradient_norm(store, *share.tensor);
        EXPECT_NEAR(norm.data<double>()[0] / squares, 1, 1e-14)
            << tensor_ranks << " tensor-parallel, " << data_ranks << " data-parallel ranks";
      });
    }
  }
}

TEST(Gradients, BucketsCoverABufferThatIsNoMultipleOfThem) {
  run_on_threads(2, [](const Communicator& world) {
    const std::int64_t size = (16 << 20) / 4 + 1001;
    Parameter big = replicated_parameter("big", {size}, 0, {});
    ParameterStore store({&big}, DType::kF32, Device::kCpu);
    for (std::int64_t i = 0; i < size; ++i) {
      big.grad.data<float>()[i] = static_cast<float>(i % 7 + world.rank());
    }
    sum_gradients(store, world);
    for (std::int64_t i = 0; i < size; ++i) {
      ASSERT_EQ(big.grad.data<float>()[i], static_cast<float>(2 * (i % 7) + 1)) << i;
    }
  });
}

TEST(Gradients, TheFirstNonFiniteTensorIsNamedAndAgreedOn) {
  run_on_threads(3, [](const Communicator& world) {
    Parameter first = replicated_parameter("first", {3}, 0, {});
    Parameter second = replicated_parameter("second", {5}, 0, {});
    ParameterStore store({&first, &second}, DType::kF32, Device::kCpu);
    EXPECT_EQ(first_non_finite_gradient(store), nullptr);
    EXPECT_EQ(agree_on_problems(world, ""), "");
    if (world.rank() == 1) {
      second.grad.data<float>()[4] = std::numeric_limits<float>::infinity();
    }
    const Parameter* culprit = first_non_finite_gradient(store);
    EXPECT_EQ(culprit, world.rank() == 1 ? &second : nullptr);
    EXPECT_EQ(agree_on_problems(world, culprit ? "gradient of " + culprit->name : ""),
              "rank 1: gradient of second");
  });
}

}  // namespace
}  // namespace polyhead
