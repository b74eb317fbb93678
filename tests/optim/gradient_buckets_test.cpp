// Gradients of whole models, summed in buckets beside the backward or in one go: the same bits.
#include <gtest/gtest.h>
#include <omp.h>

#include <optional>

#include "optim/gradients.h"
#include "tests/support/model_run.h"
#include "tests/support/ranks.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

// Says that it runs beside the computation, as connected devices do. Counts calls of its own.
class ConnectedCommunicator final : public Communicator {
 public:
  explicit ConnectedCommunicator(const Communicator& inner) : inner_(inner) {}

  int rank() const override { return inner_.rank(); }
  int size() const override { return inner_.size(); }
  PendingCollective start_all_reduce(Tensor& tensor, Reduction reduction) const override {
    counters_->add(Collective::kAllReduce, 0);
    return inner_.start_all_reduce(tensor, reduction);
  }
  PendingCollective start_all_gather(const Tensor& part, Tensor& whole) const override {
    return inner_.start_all_gather(part, whole);
  }
  PendingCollective start_reduce_scatter(const Tensor& whole, Tensor& part) const override {
    return inner_.start_reduce_scatter(whole, part);
  }
  PendingCollective start_reduce(Tensor& tensor, int root) const override {
    counters_->add(Collective::kReduce, 0);
    return inner_.start_reduce(tensor, root);
  }
  void broadcast(Tensor& tensor, int root) const override { inner_.broadcast(tensor, root); }
  void barrier() const override { inner_.barrier(); }
  std::vector<std::string> all_gather_strings(const std::string& mine) const override {
    return inner_.all_gather_strings(mine);
  }
  void connect_devices() const override {}
  bool runs_beside(Device) const override { return true; }
  std::unique_ptr<Communicator> split(int color) const override { return inner_.split(color); }

 private:
  const Communicator& inner_;
};

struct Layout {
  int tensor_ranks;
  int data_ranks;
  bool sequence_parallel = false;
};

struct Sums {
  Tensor gradients;  // of the rank's shard, or all
  std::int64_t messages;
};

enum class State { kWhole, kSharded };

std::int64_t messages_of(const Communicator& data) {
  return data.counters()[Collective::kAllReduce].calls + data.counters()[Collective::kReduce].calls;
}

// One step of several micro-batches, each of two sequences of six tokens that no other rank of
// `data` has. Without bucket_bytes the gradients are summed behind it, and what they are added to
// are zeros in place of a step's before.
Sums sums_of_step(const ModelConfig& config, const Communicator& tensor, const Communicator& data,
                  bool sequence_parallel, int micro_batches,
                  std::optional<std::int64_t> bucket_bytes, State state = State::kWhole) {
  constexpr std::int64_t kBatch = 2, kLength = 6;
  TensorParallel parallel(tensor, sequence_parallel);
  Model model(config, kLength, parallel, DType::kF32);
  ParameterStore store(model.parameters(), DType::kF32, Device::kCpu,
                       state == State::kSharded ? &data : nullptr);
  store.initialize(5);
  if (bucket_bytes) testing::zero_poisoned_grads(store);
  const std::int64_t before = messages_of(data);
  GradientSum sum(store, data, bucket_bytes.value_or(0));
  for (int i = 0; i < micro_batches; ++i) {
    const auto ids = [&](const char* what) {
      return testing::token_ids(kBatch * kLength, *config.vocab_size,
                                fmt::format("{} {} {}", what, data.rank(), i));
    };
    Model::Saved saved;
    const Tensor h = model.forward(ids("tokens"), kBatch, saved);
    Tensor loss = Tensor::zeros({1}, DType::kF64), dh;
    model.output_loss().loss_and_gradient(h, ids("targets"), 0.1, loss, dh);
    const bool last = i + 1 == micro_batches;
    model.backward(dh, saved,
                   bucket_bytes && last ? [&](const Parameter& first) { sum.add_final(first); }
                                        : Model::GradientsFinal());
  }
  sum.finish();
  return {store.grads(store.shard()), messages_of(data) - before};
}

class GradientBuckets : public ::testing::TestWithParam<testing::Variant> {
 protected:
  // Calls body(tensor group, data group, sequence parallelism, micro-batches) on every rank of
  // every layout.
  template <class Body>
  static void for_each_layout(const Body& body) {
    for (const Layout layout :
         {Layout{1, 1}, {1, 2}, {1, 4}, {2, 1, true}, {2, 2}, {2, 2, true}, {4, 2}}) {
      const int ranks = layout.tensor_ranks * layout.data_ranks;
      if (testing::world().size() > 1 && ranks > testing::world().size()) continue;
      testing::for_each_group({ranks}, [&](const Communicator& world) {
        omp_set_num_threads(1);
        const auto tensor = world.split(world.rank() / layout.tensor_ranks);
        const auto data = world.split(world.rank() % layout.tensor_ranks);
        for (const int micro_batches : {1, 3}) {
          SCOPED_TRACE(fmt::format("tp {}, dp {}, sequence parallelism {}, {} micro-batches",
                                   layout.tensor_ranks, layout.data_ranks, layout.sequence_parallel,
                                   micro_batches));
          body(*tensor, *data, layout.sequence_parallel, micro_batches);
        }
      });
    }
  }
};

TEST_P(GradientBuckets, AreBitwiseOneSum) {
  const ModelConfig& config = GetParam().config;
  for_each_layout([&](const Communicator& tensor, const Communicator& data, bool sequence_parallel,
                      int micro_batches) {
    const auto sums = [&](std::optional<std::int64_t> bucket_bytes) {
      return sums_of_step(config, tensor, data, sequence_parallel, micro_batches, bucket_bytes);
    };
    const Sums whole = sums(std::nullopt), small = sums(1);
    // About half of all bytes: more than a block has.
    const Sums large = sums(whole.gradients.numel() * 2);
    EXPECT_TRUE(testing::bitwise_equal(small.gradients, whole.gradients));
    EXPECT_TRUE(testing::bitwise_equal(large.gradients, whole.gradients));
    if (data.size() == 1) {
      EXPECT_EQ(small.messages, whole.messages);
    } else {
      // A head of its own and each block are a bucket where any size will do.
      const int heads = config.tie_word_embeddings ? 0 : 1;
      EXPECT_GE(small.messages, whole.messages + heads + config.num_layers);
      EXPECT_GT(large.messages, whole.messages);
      EXPECT_LT(large.messages, small.messages);
    }
  });
}

TEST_P(GradientBuckets, ReachTheRanksOfTheirShards) {
  const ModelConfig& config = GetParam().config;
  for_each_layout([&](const Communicator& tensor, const Communicator& data, bool sequence_parallel,
                      int micro_batches) {
    const auto sums = [&](const Communicator& group, std::int64_t bucket_bytes) {
      return sums_of_step(config, tensor, group, sequence_parallel, micro_batches, bucket_bytes,
                          State::kSharded);
    };
    const ConnectedCommunicator connected(data);
    const Sums scattered = sums(data, 1), small = sums(connected, 1);
    const Sums large = sums(connected, scattered.gradients.numel() * 2 * data.size());
    EXPECT_TRUE(testing::bitwise_equal(small.gradients, scattered.gradients));
    EXPECT_TRUE(testing::bitwise_equal(large.gradients, scattered.gradients));
    if (data.size() == 1) return;
    EXPECT_GT(small.messages, config.num_layers);
    EXPECT_GE(large.messages, data.size());
    EXPECT_LT(large.messages, small.messages);
  });
}

// Biases, tied embeddings, learned positions, norms of heads, and heads that neighbours share.
std::vector<testing::Variant> variants() {
  std::vector<testing::Variant> chosen = testing::all_variants();
  std::erase_if(chosen, [](const auto& v) {
    return v.name != "mha" && v.name != "mla" && v.name != "gpt2" && v.name != "qwen2_qwen3";
  });
  return chosen;
}

INSTANTIATE_TEST_SUITE_P(Variants, GradientBuckets, ::testing::ValuesIn(variants()),
                         [](const auto& test) { return test.param.name; });

TEST(GradientBuckets, AreCutWhereGradientsAreFinal) {
  run_on_threads(2, [](const Communicator& world) {
    Parameter first = replicated_parameter("first", {3, 1}, 0, {});
    Parameter vector = replicated_parameter("vector", {2}, 0, {});
    Parameter second = replicated_parameter("second", {1, 5}, 0, {});
    ParameterStore store({&first, &vector, &second}, DType::kF32, Device::kCpu);
    const auto fill = [&](Parameter& parameter, int value) {
      for (std::int64_t i = 0; i < parameter.grad.numel(); ++i) {
        parameter.grad.data<float>()[i] = static_cast<float>(value + world.rank());
      }
    };
    GradientSum sum(store, world, /*bucket_bytes=*/1);
    fill(second, 1);
    fill(vector, 5);
    sum.add_final(vector);
    EXPECT_EQ(second.grad.data<float>()[4], 3);
    EXPECT_EQ(vector.grad.data<float>()[1], 5 + world.rank()) << "is summed with the first";
    fill(first, 10);  // as late as the embedding's
    EXPECT_THROW(sum.add_final(second), std::exception);
    sum.finish();
    EXPECT_EQ(first.grad.data<float>()[2], 21);
    EXPECT_EQ(vector.grad.data<float>()[1], 11);
    EXPECT_EQ(second.grad.data<float>()[4], 3);
  });
}

}  // namespace
}  // namespace polyhead
