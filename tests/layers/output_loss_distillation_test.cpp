// The output loss with a teacher, in f64: gradients against differences, tensor parallelism against
// one rank, chunks against the whole.
#include <gtest/gtest.h>

#include "tests/support/gradcheck.h"
#include "tests/support/model_run.h"
#include "tests/support/poisoned_gradients.h"
#include "tests/support/ranks.h"
#include "tests/support/variants.h"

namespace polyhead {
namespace {

using testing::RunResult;

constexpr std::int64_t kBatch = 2, kLength = 6, kTokens = kBatch * kLength;
constexpr std::int64_t kVocabulary = 257;  // no multiple of any number of ranks
constexpr double kTolerance = 1e-12;
constexpr double kWeight = 0.37;

struct Mix {
  double temperature = 1, share = 0.5;
};

ModelConfig student_config() {
  ModelConfig config = testing::small_config();
  config.num_query_groups = 2;
  config.vocab_size = kVocabulary;
  config.final_softcap = 2.0;
  config.tie_word_embeddings = true;
  return config;
}

// Of another width, attention and soft-cap.
ModelConfig teacher_config() {
  ModelConfig config = testing::small_latent_config();
  config.hidden_size = 32;
  config.vocab_size = kVocabulary;
  config.final_softcap = 5.0;
  return config;
}

struct Weighted {
  Weighted(const ModelConfig& config, TensorParallel& parallel)
      : model(config, kLength, parallel, DType::kF64),
        store(model.parameters(), DType::kF64, Device::kCpu) {
    store.initialize(5);
    testing::scatter_vectors(store);
  }
  Model model;
  ParameterStore store;
};

Tensor some_targets(const Model& model) {
  Tensor targets = testing::token_ids(kTokens, *model.config().vocab_size, "targets");
  targets.data<std::int32_t>()[3] = -1;
  return targets;
}

Tensor some_ids(const Model& model) {
  return testing::token_ids(kTokens, *model.config().vocab_size, "ids");
}

// The cross-entropy and the divergence behind it, where `known` are the teacher's hidden states.
// Adds to the student's gradients.
Tensor distill(Model& student, const Model& teacher, const Tensor& known, const Mix& mix,
               Tensor& dh, Model::Saved& saved) {
  const Tensor h = student.forward(some_ids(student), kBatch, saved);
  Tensor losses = Tensor::zeros({2}, DType::kF64);
  student.output_loss().loss_and_gradient(
      h, {teacher.output_loss(), known, mix.temperature, mix.share}, some_targets(student), kWeight,
      losses, dh);
  return losses;
}

TEST(Distillation, Gradients) {
  const auto solo = make_solo_communicator();
  TensorParallel parallel(*solo, false);
  constexpr std::int64_t kFew = 23;  // every entry of the head is perturbed
  ModelConfig config = student_config(), teacher_of = teacher_config();
  config.num_layers = 0;
  config.vocab_size = teacher_of.vocab_size = kFew;
  for (const Mix mix : {Mix{1, 0.5}, Mix{2.5, 0.8}, Mix{0.8, 1}}) {
    for (const bool tied : {true, false}) {
      config.tie_word_embeddings = tied;
      Weighted student(config, parallel);
      const Weighted teacher(teacher_of, parallel);
      const Tensor known = teacher.model.infer(some_ids(teacher.model), kBatch);
      const auto loss = [&](Tensor& dh, Model::Saved& saved) {
        const Tensor losses = distill(student.model, teacher.model, known, mix, dh, saved);
        return (1 - mix.share) * losses.data<double>()[0] + mix.share * losses.data<double>()[1];
      };
      Tensor dh;
      Model::Saved saved;
      loss(dh, saved);
      student.model.backward(dh, saved);
      testing::GradientCheck check;
      for (Parameter* parameter : student.model.parameters()) {
        check.add(parameter->name, valid_part(*parameter, parameter->value),
                  valid_part(*parameter, parameter->grad).clone());
      }
      check.expect_close([&] {
        Tensor unused;
        Model::Saved dropped;
        return loss(unused, dropped);
      });
    }
  }
}

RunResult run(const Communicator& group, bool sequence_parallel, const ModelConfig& student_of,
              const ModelConfig& teacher_of, const Mix& mix) {
  TensorParallel parallel(group, sequence_parallel);
  Weighted student(student_of, parallel);
  const Weighted teacher(teacher_of, parallel);
  const Tensor known = teacher.model.infer(some_ids(teacher.model), kBatch);
  Tensor dh;
  Model::Saved saved;
  RunResult result;
  result.put("losses", distill(student.model, teacher.model, known, mix, dh, saved));
  result.put_gradient("dhidden", parallel.enter(dh).clone());
  student.model.backward(dh, saved);
  for (Parameter* parameter : student.model.parameters()) {
    if (parameter->partial_over) parameter->partial_over->all_reduce(parameter->grad);
    result.put_gradient(parameter->name, testing::whole_gradient(*parameter, group));
  }
  return result;
}

TEST(Distillation, EqualsOneRank) {
  const Mix mix{1.5, 0.7};
  const RunResult alone =
      run(*make_solo_communicator(), false, student_config(), teacher_config(), mix);
  testing::for_each_group({1, 2, 4}, [&](const Communicator& group) {
    for (const bool sequence_parallel : {false, true}) {
      const RunResult parallel =
          run(group, sequence_parallel, student_config(), teacher_config(), mix);
      std::string worst;
      EXPECT_LE(parallel.error_against(alone, &worst), kTolerance)
          << group.size() << " ranks, worst: " << worst;
    }
  });
}

TEST(Distillation, FromItselfHasNothingToLearn) {
  testing::for_each_group({1, 2, 4}, [](const Communicator& group) {
    const RunResult result = run(group, false, student_config(), student_config(), {1, 1});
    for (const auto& [name, tensor] : result.tensors()) {
      if (name == "losses") continue;
      EXPECT_EQ(testing::max_abs(tensor), 0) << name;
    }
    const double* losses = result.tensors().at("losses").data<double>();
    EXPECT_GT(losses[0], 0);
    EXPECT_EQ(losses[1], 0);
  });
}

// Without any share of the divergence the rest is the plain loss.
TEST(Distillation, HasTheCrossEntropyOfThePlainLoss) {
  const auto solo = make_solo_communicator();
  TensorParallel parallel(*solo, false);
  Weighted student(student_config(), parallel);
  const Weighted teacher(teacher_config(), parallel);
  Tensor dh, plain_dh;
  Model::Saved saved;
  const Tensor known = teacher.model.infer(some_ids(teacher.model), kBatch);
  const Tensor losses = distill(student.model, teacher.model, known, {1, 0}, dh, saved);
  const Tensor h = student.model.infer(some_ids(student.model), kBatch);
  Tensor plain = Tensor::zeros({1}, DType::kF64);
  student.model.output_loss().loss_and_gradient(h, some_targets(student.model), kWeight, plain,
                                                plain_dh);
  EXPECT_LE(testing::relative_error(losses.row_slice(0, 1), plain), 1e-14);
  EXPECT_LE(testing::relative_error(dh, plain_dh), 1e-13);
}

TEST(Distillation, ChunksAddUp) {
  constexpr std::int64_t kMany = 260, kWide = 65537;
  ASSERT_LT(output_chunk_tokens(kMany, kWide, DType::kF64, Device::kCpu), kMany);
  const auto solo = make_solo_communicator();
  TensorParallel parallel(*solo, false);
  ModelConfig config = testing::small_config();
  config.num_layers = 0;
  config.vocab_size = kWide;
  Weighted student(config, parallel);
  config.hidden_size = 12;
  const Weighted teacher(config, parallel);
  const Tensor h = testing::random_tensor({kMany, 20}, DType::kF64, "h");
  const Tensor known = testing::random_tensor({kMany, 12}, DType::kF64, "known");
  const Tensor targets = testing::token_ids(kMany, kWide, "targets");
  const auto add = [&](std::int64_t begin, std::int64_t end, Tensor& losses) {
    const Tensor part = known.row_slice(begin, end);
    Tensor dh;
    student.model.output_loss().loss_and_gradient(h.row_slice(begin, end),
                                                  {teacher.model.output_loss(), part, 2, 0.5},
                                                  targets.row_slice(begin, end), 1, losses, dh);
    return dh;
  };
  Tensor whole = Tensor::zeros({2}, DType::kF64), parts = whole.clone();
  testing::zero_poisoned_grads(student.store);
  const Tensor dh = add(0, kMany, whole);
  const Tensor head = student.store.grads().clone();
  testing::zero_poisoned_grads(student.store);
  for (std::int64_t begin = 0; begin < kMany; begin += 65) {
    const Tensor part = add(begin, begin + 65, parts);
    EXPECT_LE(testing::relative_error(dh.row_slice(begin, begin + 65), part), 1e-12);
  }
  EXPECT_LE(testing::relative_error(whole, parts), 1e-12);
  EXPECT_LE(testing::relative_error(head, student.store.grads()), 1e-12);
}

}  // namespace
}  // namespace polyhead
