#include "scripts/memory_estimate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>

#include "framework/buffer.h"
#include "framework/ops/elementwise.h"
#include "framework/random.h"
#include "layers/model.h"
#include "optim/optimizer.h"
#include "scripts/train_config_fields.h"

namespace polyhead {
namespace {

using ::testing::AllOf;
using ::testing::ContainsRegex;
using ::testing::HasSubstr;

// The promise is 5 %; a tensor of these models that is forgotten is less than that.
constexpr double kTolerance = 0.01;
constexpr Compute kCpu{Device::kCpu, DType::kF32};
constexpr Compute kCuda{Device::kCuda, DType::kBf16};

// The first of some ranks, alone: what the others would send is its own. So one process has the
// tensors of one rank.
class LoneRank final : public Communicator {
 public:
  explicit LoneRank(int size) : size_(size) {}

  int rank() const override { return 0; }
  int size() const override { return size_; }
  PendingCollective start_all_reduce(Tensor&, Reduction) const override { return {}; }
  PendingCollective start_all_gather(const Tensor& part, Tensor& whole) const override {
    const std::int64_t rows = part.shape()[0];
    for (int rank = 0; rank < size_; ++rank) {
      whole.row_slice(rank * rows, (rank + 1) * rows).copy_from(part);
    }
    return {};
  }
  PendingCollective start_reduce_scatter(const Tensor& whole, Tensor& part) const override {
    part.copy_from(whole.row_slice(0, part.shape()[0]));
    return {};
  }
  PendingCollective start_reduce(Tensor&, int) const override { return {}; }
  void broadcast(Tensor&, int) const override {}
  void barrier() const override {}
  void connect_devices() const override {}
  bool runs_beside(Device) const override { return false; }
  std::vector<std::string> all_gather_strings(const std::string& mine) const override {
    return std::vector<std::string>(static_cast<std::size_t>(size_), mine);
  }
  std::unique_ptr<Communicator> split(int) const override { return std::make_unique<LoneRank>(1); }

 private:
  int size_;
};

Tensor random_tokens(std::int64_t count, std::int64_t vocabulary) {
  Tensor tokens = Tensor::empty({count}, DType::kI32);
  for (std::int64_t i = 0; i < count; ++i) {
    tokens.data<std::int32_t>()[i] = static_cast<std::int32_t>(
        uniform(7, 1, static_cast<std::uint64_t>(i)) * static_cast<double>(vocabulary));
  }
  return tokens;
}

// The peak of one training step on rank 0, as a run takes it.
double measured_bytes(const TrainConfig& config, int ranks,
                      const ModelConfig* teacher_config = nullptr) {
  const LoneRank rank(ranks);
  TensorParallel parallel(rank, config.parallel.sequence_parallel);
  Model model(config.model, config.data.sequence_length, parallel, DType::kF32,
              config.training.recompute);
  ParameterStore store(model.parameters(), DType::kF32, Device::kCpu);
  AdamW optimizer(store, {}, moments_dtype(config.optimizer, DType::kF32), /*seed=*/1);
  store.initialize(1);
  std::optional<Model> teacher;
  std::optional<ParameterStore> teacher_store;
  if (teacher_config) {
    teacher.emplace(*teacher_config, config.data.sequence_length, parallel, DType::kF32);
    teacher_store.emplace(
        ParameterStore::of_values(teacher->parameters(), DType::kF32, Device::kCpu));
    teacher_store->initialize(2);
  }
  const std::int64_t sequences = config.training.micro_batch_size;
  const Tensor tokens =
      random_tokens(sequences * config.data.sequence_length, *config.model.vocab_size);
  const Tensor targets = tokens.clone();
  Tensor loss = Tensor::zeros({teacher ? 2 : 1}, DType::kF64);
  reset_peak_memory(Device::kCpu);
  {
    Tensor known;
    if (teacher) known = teacher->infer(tokens, sequences);
    Model::Saved saved;
    Tensor dh;
    const Tensor h = model.forward(tokens, sequences, saved);
    if (teacher) {
      model.output_loss().loss_and_gradient(h, {teacher->output_loss(), known}, targets, 1.0, loss,
                                            dh);
      known = {};
    } else {
      model.output_loss().loss_and_gradient(h, targets, 1.0, loss, dh);
    }
    model.backward(dh, saved);
  }
  Tensor scale = Tensor::zeros({1}, DType::kF64);
  optimizer.step(1e-3, scale);
  return static_cast<double>(memory_statistics(Device::kCpu).peak);
}

TrainConfig grouped() {
  TrainConfig config;
  config.model.num_layers = 3;
  config.model.hidden_size = 192;
  config.model.ffn_hidden_size = 520;
  config.model.num_attention_heads = 12;
  config.model.vocab_size = 1003;
  config.data.sequence_length = 312;
  config.training.micro_batch_size = 2;
  return config;
}

TrainConfig latent() {
  TrainConfig config = grouped();
  config.model.kv_lora_rank = 72;
  config.model.qk_head_dim = 24;
  config.model.qk_pos_emb_head_dim = 8;
  config.model.v_head_dim = 20;
  return config;
}

struct Case {
  std::string name;
  TrainConfig config;
};

template <class Change>
Case changed(std::string name, TrainConfig config, Change change) {
  change(config);
  return {std::move(name), std::move(config)};
}

std::vector<Case> cases() {
  const auto nothing = [](TrainConfig&) {};
  return {
      changed("mha", grouped(), nothing),
      changed("gqa", grouped(), [](TrainConfig& c) { c.model.num_query_groups = 4; }),
      changed("mqa", grouped(), [](TrainConfig& c) { c.model.num_query_groups = 1; }),
      changed("mla", latent(), [](TrainConfig& c) { c.model.q_lora_rank = 100; }),
      changed("mla_without_query_rank", latent(), nothing),
      changed("mla_without_latent_norm", latent(),
              [](TrainConfig& c) { c.model.latent_norm = false; }),
      changed("swa", grouped(),
              [](TrainConfig& c) {
                c.model.window_size = 40;
                c.model.window_pattern = WindowPattern{2, {}};
              }),
      changed("qk_norm", grouped(),
              [](TrainConfig& c) {
                c.model.num_query_groups = 4;
                c.model.qk_norm = true;
              }),
      changed("gpt2", grouped(),
              [](TrainConfig& c) {
                c.model.position_embedding = PositionEmbedding::kLearned;
                c.model.max_position_embeddings = 400;
                c.model.normalization = Normalization::kLayerNorm;
                c.model.activation = ops::Activation::kGeluTanh;
                c.model.add_bias_linear = true;
                c.model.tie_word_embeddings = true;
              }),
      changed("gemma2", grouped(),
              [](TrainConfig& c) {
                c.model.post_norms = true;
                c.model.final_softcap = 30.0;
                c.model.tie_word_embeddings = true;
              }),
      // The logits of one chunk outweigh the rest.
      changed("vocabulary", grouped(),
              [](TrainConfig& c) {
                c.model.num_layers = 1;
                c.model.vocab_size = 9001;
              }),
  };
}

void expect_close(const std::string& what, double predicted, double measured) {
  EXPECT_NEAR(predicted / measured, 1.0, kTolerance)
      << what << ": predicted " << predicted / (1 << 20) << " MiB, measured "
      << measured / (1 << 20) << " MiB";
}

class Prediction : public ::testing::TestWithParam<Recompute> {};

// Few threads, for the sake of the test: their working memory is counted, but these models are
// small. One where OMP_NUM_THREADS allows no more, as ThreadSanitizer needs it.
TEST_P(Prediction, IsWhatAStepTakes) {
  const int threads = std::min(2, omp_get_max_threads());
  omp_set_num_threads(threads);
  for (auto& [name, config] : cases()) {
    for (const auto& [ranks, sequence_parallel] :
         {std::pair{1, false}, std::pair{4, false}, std::pair{4, true}}) {
      config.training.recompute = GetParam();
      config.parallel.sequence_parallel = sequence_parallel;
      const MemoryEstimate estimate = estimate_memory(config, kCpu, ranks, 1, threads);
      expect_close(name + " on " + std::to_string(ranks) + (sequence_parallel ? ", SP" : "") +
                       " in " + estimate.transient_reason,
                   static_cast<double>(estimate.total()), measured_bytes(config, ranks));
    }
  }
}

std::string recompute_name(const ::testing::TestParamInfo<Recompute>& recompute) {
  return std::string(enum_name(recompute.param));
}
INSTANTIATE_TEST_SUITE_P(Recompute, Prediction,
                         ::testing::Values(Recompute::kNone, Recompute::kSelective,
                                           Recompute::kFull),
                         recompute_name);

// Peaks that tests/bench/bench_gpu_step.cpp reported on an H200, in GiB.
TEST(MemoryEstimate, IsWhatStepsTookOnCuda) {
  const auto expect = [](const std::string& name, double gib) {
    const TrainConfig config = load_train_config(
        POLYHEAD_SOURCE_DIR "/tests/bench/steps/" + name + ".yaml", {}, std::nullopt);
    expect_close(name, static_cast<double>(estimate_memory(config, kCuda, 1, 1, 1).total()),
                 gib * (1 << 30));
  };
  expect("162m", 13.60);
  expect("1.13b", 62.24);
  expect("2.82b", 86.57);
  expect("mla", 75.65);
  expect("qwen2.5_1.5b", 86.83);
}

TEST(MemoryEstimate, MovesFromActivationsToTheLoss) {
  TrainConfig config = grouped();
  config.training.recompute = Recompute::kFull;
  EXPECT_THAT(estimate_memory(config, kCpu, 1, 1, 1).transient_reason, HasSubstr("backward"));
  config.model.vocab_size = 90001;
  EXPECT_EQ(estimate_memory(config, kCpu, 1, 1, 1).transient_reason, "the output loss");
}

TEST(MemoryEstimate, HalvesMomentsInBf16) {
  TrainConfig config = grouped();
  const MemoryEstimate wide = estimate_memory(config, kCpu, 1, 1, 1);
  config.optimizer.moments_dtype = MomentsDtype::kBf16;
  const MemoryEstimate narrow = estimate_memory(config, kCpu, 1, 1, 1);
  EXPECT_NEAR(static_cast<double>(narrow.moments) / static_cast<double>(wide.moments), 0.5, 0.06);
  expect_close("moments in bf16", static_cast<double>(narrow.total()), measured_bytes(config, 1));
  EXPECT_EQ(estimate_memory(config, kCuda, 1, 1, 1).moments, narrow.moments);
}

TEST(MemoryEstimate, CountsTheTeacher) {
  omp_set_num_threads(1);
  TrainConfig config = grouped();
  config.model.num_query_groups = 4;
  ModelConfig same = grouped().model;
  ModelConfig larger = same;
  larger.num_layers = 5;
  larger.hidden_size = 384;
  larger.ffn_hidden_size = 3000;
  for (const std::int64_t vocabulary : {1003, 9001}) {
    config.model.vocab_size = same.vocab_size = larger.vocab_size = vocabulary;
    for (const ModelConfig& teacher : {same, larger}) {
      for (const auto& [ranks, sequence_parallel] : {std::pair{1, false}, std::pair{4, true}}) {
        config.parallel.sequence_parallel = sequence_parallel;
        config.training.recompute = vocabulary > 9000 ? Recompute::kFull : Recompute::kNone;
        const MemoryEstimate estimate = estimate_memory(config, kCpu, ranks, 1, 1, &teacher);
        EXPECT_GT(estimate.teacher, 0);
        expect_close(fmt::format("{} tokens, {} ranks{}, in {}", vocabulary, ranks,
                                 sequence_parallel ? ", SP" : "", estimate.transient_reason),
                     static_cast<double>(estimate.total()),
                     measured_bytes(config, ranks, &teacher));
      }
    }
  }
}

TEST(MemoryEstimate, Table) {
  const MemoryEstimate estimate{.values = 3 << 20,
                                .gradients = 6 << 20,
                                .masters = 6 << 20,
                                .moments = 12 << 20,
                                .inputs = 1 << 19,
                                .saved_per_layer = 5 << 19,
                                .layers = 4,
                                .transient = 7 << 20,
                                .transient_reason = "the output loss"};
  const std::string table = memory_table(estimate, kCuda, 2);
  EXPECT_THAT(table, AllOf(HasSubstr("on cuda in bf16, on 1 of 2 ranks"),
                           ContainsRegex("4 layers of 2.5 MiB +10.0\n"),
                           ContainsRegex("at the peak, in the output loss +7.0\n"),
                           ContainsRegex("total +44.5\n")));
}

TEST(MemoryEstimate, SharesTheStateOfADistributedOptimizer) {
  TrainConfig config = grouped();
  const MemoryEstimate whole = estimate_memory(config, kCuda, 1, 2, 1);
  config.parallel.distributed_optimizer = true;
  const MemoryEstimate shared = estimate_memory(config, kCuda, 1, 2, 1);
  EXPECT_EQ(shared.values, whole.values);
  EXPECT_EQ(shared.gradients, whole.gradients);
  // Blocks of the pool are rounded up by an eighth at most.
  EXPECT_NEAR(static_cast<double>(shared.masters) / static_cast<double>(whole.masters), 0.5, 0.06);
  EXPECT_NEAR(static_cast<double>(shared.moments) / static_cast<double>(whole.moments), 0.5, 0.06);
}

}  // namespace
}  // namespace polyhead
