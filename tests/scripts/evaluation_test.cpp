// Perplexities of a checkpoint, on one rank and on several.
#include "scripts/evaluation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "layers/huggingface/tensor_layout.h"
#include "scripts/evaluation_report.h"
#include "tests/support/ranks.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::TrainingRun;

constexpr std::int32_t kVocabulary = 37, kEod = 36;
constexpr std::int64_t kContext = 7, kStride = 3, kBytes = 211, kWords = 50,
                       kSpaceSeparatedWords = 47;
constexpr WindowMethod kMethods[] = {WindowMethod::kStrided, WindowMethod::kHfStrided,
                                     WindowMethod::kRolling, WindowMethod::kMegatron};

EvaluationOptions options_of(WindowMethod method, int tensor_parallel_size = 1) {
  EvaluationOptions options{
      .method = method,
      .context = kContext,
      .stride = kStride,
      // The CPU also where there is a GPU.
      .inference = {.tensor_parallel_size = tensor_parallel_size, .device = DeviceChoice::kCpu}};
  if (method == WindowMethod::kRolling) options.stride.reset();
  return options;
}

// A checkpoint and a described text. Under mpirun every rank has the same ones in its own folder.
class EvaluatedRun {
 public:
  // Untrained after 0 steps.
  EvaluatedRun(ModelConfig model, int steps) : run_(std::move(model)) { train(steps); }
  // Of weights that are next to nothing: every token is as likely as every other.
  static EvaluatedRun uniform() { return EvaluatedRun(1e-12); }

  std::string write_text(const std::string& name, const std::string& tokenizer = "numbers",
                         bool append_eod = true, bool with_sizes = true) const {
    const std::string prefix = (run_.folder() / name).string();
    IndexedDatasetWriter writer(prefix, kVocabulary);
    std::vector<TextSize> sizes;
    for (std::vector<std::int32_t> document : documents_) {
      const auto length = static_cast<std::int64_t>(document.size());
      if (with_sizes) sizes.push_back({3 * length, length / 2 + 1});
      if (append_eod) document.push_back(kEod);
      writer.add_document(document);
    }
    DatasetDescription description;
    description.tokenizer = tokenizer;
    description.tokenizer_fingerprint = tokenizer;
    description.eod_id = kEod;
    description.append_eod = append_eod;
    description.bytes = kBytes;
    description.words = kWords;
    description.space_separated_words = kSpaceSeparatedWords;
    writer.finish(description, sizes);
    return prefix;
  }

  CheckpointEvaluation evaluate(const EvaluationOptions& options, const Communicator& world,
                                const std::string& text) const {
    omp_set_num_threads(1);
    return evaluate_checkpoint(checkpoint(), IndexedDataset(text), options, world);
  }
  CheckpointEvaluation evaluate_alone(const EvaluationOptions& options) const {
    return evaluate(options, *make_solo_communicator(), text_);
  }

  std::filesystem::path checkpoint() const { return run_.checkpoint(steps_); }
  const ModelConfig& model() const { return run_.config.model; }
  const std::string& text() const { return text_; }
  const std::vector<std::vector<std::int32_t>>& documents() const { return documents_; }
  std::int64_t text_tokens() const {
    std::int64_t tokens = 0;
    for (const auto& document : documents_) tokens += static_cast<std::int64_t>(document.size());
    return tokens;
  }

 private:
  explicit EvaluatedRun(double standard_deviation) {
    run_.config.model.init_method_std = standard_deviation;
    train(0);
  }

  void train(int steps) {
    steps_ = steps;
    run_.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      testing::train_for(trainer, steps);
      trainer.save();
    });
    // Only windows of one length share a batch. Whole ones and the shorter ones of documents' ends
    // take turns here, so that four data-parallel ranks have some batches each.
    for (const std::size_t length : {41, 5, 23, 1, 3, 18}) {
      std::vector<std::int32_t> document(length);
      for (std::size_t t = 0; t < length; ++t) {
        document[t] = static_cast<std::int32_t>((length + 3 * t + t * t / 5) % kEod);
      }
      documents_.push_back(std::move(document));
    }
    text_ = write_text("text");
  }

  TrainingRun run_;
  int steps_ = 0;
  std::vector<std::vector<std::int32_t>> documents_;
  std::string text_;
};

// Batches of one window, all targets, and the sums taken here.
CheckpointEvaluation window_by_window(const EvaluatedRun& run, WindowMethod method) {
  const std::unique_ptr<Communicator> solo = make_solo_communicator();
  TensorParallel parallel(*solo, /*sequence_parallel=*/false);
  Model model(run.model(), kContext, parallel, DType::kF32);
  ParameterStore store(model.parameters(), DType::kF32, Device::kCpu);
  load_parameters(run.checkpoint(), store, stored_layout(run.checkpoint(), run.model()));

  CheckpointEvaluation evaluation;
  double nll = 0, weighted = 0, weights = 0;
  for (const std::vector<std::int32_t>& document : run.documents()) {
    DocumentScore& score = evaluation.documents.emplace_back();
    for (const EvaluationWindow& window : evaluation_windows(
             method, static_cast<std::int64_t>(document.size()), kContext, kStride)) {
      Tensor tokens = Tensor::empty({window.length}, DType::kI32);
      Tensor targets = Tensor::empty({window.length}, DType::kI32);
      for (std::int64_t i = 0; i < window.length; ++i) {
        const std::int64_t at = window.begin + i;
        tokens.data<std::int32_t>()[i] = at < 0 ? kEod : document[static_cast<std::size_t>(at)];
        targets.data<std::int32_t>()[i] = document[static_cast<std::size_t>(at + 1)];
      }
      const Tensor losses = model.output_loss().losses(model.infer(tokens, 1), targets);
      double sum = 0;
      for (std::int64_t i = window.first_scored; i < window.length; ++i) {
        sum += losses.data<float>()[i];
      }
      const std::int64_t scored = window.length - window.first_scored;
      nll += sum;
      weighted += window.weight * sum / static_cast<double>(scored);
      weights += window.weight;
      evaluation.tokens_scored += scored;
      score.tokens += scored;
      score.nll += sum;
    }
  }
  evaluation.loss = weighted / weights;
  evaluation.bits_per_byte = nll / std::log(2.0) / kBytes;
  evaluation.byte_perplexity = std::exp(nll / kBytes);
  evaluation.word_perplexity = std::exp(nll / kWords);
  return evaluation;
}

void expect_close(const CheckpointEvaluation& got, const CheckpointEvaluation& want) {
  EXPECT_EQ(got.tokens_scored, want.tokens_scored);
  EXPECT_NEAR(got.loss / want.loss, 1, 1e-6);
  EXPECT_NEAR(got.bits_per_byte.value() / want.bits_per_byte.value(), 1, 1e-6);
  ASSERT_EQ(got.documents.size(), want.documents.size());
  for (std::size_t i = 0; i < want.documents.size(); ++i) {
    EXPECT_EQ(got.documents[i].tokens, want.documents[i].tokens);
    EXPECT_NEAR(got.documents[i].nll, want.documents[i].nll, 1e-5 * want.documents[i].nll);
  }
}

class EvaluateVariant : public ::testing::TestWithParam<std::string> {
 protected:
  static ModelConfig config() {
    for (const testing::Variant& variant : testing::attention_variants()) {
      if (variant.name == GetParam()) return variant.config;
    }
    POLYHEAD_CHECK(false, "no variant {}", GetParam());
  }
  EvaluatedRun run_{config(), 3};
};

TEST_P(EvaluateVariant, EqualsWindowByWindow) {
  for (const WindowMethod method : kMethods) {
    SCOPED_TRACE(static_cast<int>(method));
    const CheckpointEvaluation got = run_.evaluate_alone(options_of(method));
    const CheckpointEvaluation want = window_by_window(run_, method);
    expect_close(got, want);
    EXPECT_NEAR(*got.word_perplexity / *want.word_perplexity, 1, 1e-5);
    EXPECT_NEAR(*got.byte_perplexity / *want.byte_perplexity, 1, 1e-6);
    EXPECT_NEAR(got.token_perplexity, std::exp(want.loss), 1e-4);
    EXPECT_EQ(got.step, 3);
    EXPECT_EQ(got.context, kContext);
    EXPECT_EQ(got.stride, method == WindowMethod::kRolling ? kContext : kStride);
  }
}

TEST_P(EvaluateVariant, IsTheSameOnAnyLayout) {
  for (const WindowMethod method : kMethods) {
    const CheckpointEvaluation alone = run_.evaluate_alone(options_of(method));
    testing::for_each_group({1, 2, 3, 4}, [&](const Communicator& world) {
      for (const int tensor_ranks : {1, 2, 4}) {
        if (world.size() % tensor_ranks != 0) continue;
        SCOPED_TRACE(fmt::format("method {}, {} ranks, tp {}", static_cast<int>(method),
                                 world.size(), tensor_ranks));
        expect_close(run_.evaluate(options_of(method, tensor_ranks), world, run_.text()), alone);
      }
    });
  }
}

INSTANTIATE_TEST_SUITE_P(Attention, EvaluateVariant, ::testing::Values("gqa2", "mla", "swa"),
                         [](const auto& test) { return test.param; });

// Padded rows of the vocabulary, 3 of 40 on one rank and 27 of 64 on four, would lower the odds.
TEST(Evaluate, AUniformModelNeedsTheLogarithmOfTheVocabulary) {
  const EvaluatedRun run = EvaluatedRun::uniform();
  testing::for_each_group({1, 2, 4}, [&](const Communicator& world) {
    for (const WindowMethod method : kMethods) {
      const CheckpointEvaluation e =
          run.evaluate(options_of(method, world.size()), world, run.text());
      EXPECT_NEAR(e.loss / std::log(37.0), 1, 1e-6);
      EXPECT_NEAR(e.token_perplexity, 37, 1e-4);
    }
  });
}

TEST(Evaluate, BitsPerByteAreOfTheWholeText) {
  const EvaluatedRun run = EvaluatedRun::uniform();
  const auto bits_of = [](std::int64_t tokens) {
    return static_cast<double>(tokens) * std::log2(37.0) / kBytes;
  };
  const CheckpointEvaluation rolling = run.evaluate_alone(options_of(WindowMethod::kRolling));
  EXPECT_EQ(rolling.tokens_scored, run.text_tokens());
  EXPECT_NEAR(*rolling.bits_per_byte / bits_of(run.text_tokens()), 1, 1e-6);

  for (const WindowMethod method :
       {WindowMethod::kStrided, WindowMethod::kHfStrided, WindowMethod::kMegatron}) {
    EvaluationOptions options = options_of(method);
    const CheckpointEvaluation strided = run.evaluate_alone(options);
    EXPECT_NEAR(*strided.bits_per_byte / bits_of(run.text_tokens() - 6), 1, 1e-6)
        << "all but the first token of each of six documents";
    // Disjoint: the first token of every window goes unpredicted, but for Megatron's.
    options.stride = kContext;
    const CheckpointEvaluation disjoint = run.evaluate_alone(options);
    const bool all = method == WindowMethod::kMegatron;
    EXPECT_EQ(disjoint.bits_per_byte.has_value(), all);
    EXPECT_EQ(disjoint.word_perplexity.has_value(), all);
    EXPECT_EQ(disjoint.tokens_scored, run.text_tokens() - (all ? 6 : 16));
    EXPECT_NEAR(disjoint.loss, std::log(37.0), 1e-5);
  }
}

TEST(Evaluate, MegatronSpreadsTheLossOverWords) {
  const EvaluatedRun run = EvaluatedRun::uniform();
  const double want = std::exp(std::log(37.0) * static_cast<double>(run.text_tokens() - 1) /
                               static_cast<double>(kSpaceSeparatedWords - 1));
  const EvaluationOptions options = options_of(WindowMethod::kMegatron);
  EXPECT_NEAR(*run.evaluate_alone(options).adjusted_perplexity / want, 1, 1e-4);
  // Without end-of-document tokens in the file the text is the same.
  const std::string bare = run.write_text("bare", "numbers", /*append_eod=*/false);
  EXPECT_NEAR(*run.evaluate(options, *make_solo_communicator(), bare).adjusted_perplexity / want, 1,
              1e-4);
}

TEST(Evaluate, TellsTheCacheOfEveryVariant) {
  // bf16, two layers, heads of 6; the latent is 9 + 4.
  const std::map<std::string, std::int64_t> bytes = {
      {"mha", 2 * 2 * 8 * 6 * 2}, {"gqa2", 2 * 2 * 2 * 6 * 2}, {"mqa", 2 * 2 * 6 * 2},
      {"mla", 2 * (9 + 4) * 2},   {"swa", 2 * 2 * 8 * 6 * 2},
  };
  for (const testing::Variant& variant : testing::attention_variants()) {
    const auto want = bytes.find(variant.name);
    if (want == bytes.end()) continue;
    const EvaluatedRun run(variant.config, 0);
    EXPECT_EQ(run.evaluate_alone(options_of(WindowMethod::kStrided)).kv_cache_bytes_per_token,
              want->second)
        << variant.name;
  }
}

TEST(Evaluate, RefusesWhatItCannotScore) {
  const EvaluatedRun run = EvaluatedRun::uniform();
  const auto refusal = [&](const EvaluationOptions& options, const std::string& text) {
    return error_of([&] { run.evaluate(options, *make_solo_communicator(), text); });
  };
  EXPECT_THAT(refusal(options_of(WindowMethod::kStrided), run.write_text("other", "letters")),
              HasSubstr("trained with another tokenizer (fingerprint numbers)"));
  EvaluationOptions options = options_of(WindowMethod::kRolling);
  options.stride = 3;
  EXPECT_THAT(refusal(options, run.text()), HasSubstr("--stride 3: rolling windows follow"));
  options = options_of(WindowMethod::kStrided);
  options.context = 0;
  EXPECT_THAT(refusal(options, run.text()), HasSubstr("--context 0: must be positive"));
  options = options_of(WindowMethod::kStrided);
  options.stride = 8;
  EXPECT_THAT(refusal(options, run.text()), HasSubstr("--stride 8: must lie between 1 and"));
  EXPECT_THAT(refusal(options_of(WindowMethod::kStrided, 2), run.text()),
              HasSubstr("--tp 2: must divide the number of ranks (1)"));
}

// Positions beyond the table would read as zeros.
TEST(Evaluate, RefusesContextsBeyondLearnedPositions) {
  ModelConfig config = testing::small_config();
  config.position_embedding = PositionEmbedding::kLearned;
  config.max_position_embeddings = 9;
  const EvaluatedRun run(config, 0);
  EvaluationOptions options = options_of(WindowMethod::kStrided);
  options.context = 9;
  EXPECT_GT(run.evaluate_alone(options).loss, 0);
  options.context = 10;
  EXPECT_THAT(error_of([&] { run.evaluate_alone(options); }),
              HasSubstr("--context 10: must lie between 1 and the 9 positions"));
}

TEST(Evaluate, KnowsTheSizesOfDocumentsWhereTheyAreRecorded) {
  const EvaluatedRun run = EvaluatedRun::uniform();
  const EvaluationOptions options = options_of(WindowMethod::kStrided);
  const CheckpointEvaluation with = run.evaluate_alone(options);
  ASSERT_EQ(with.documents.size(), 6u);
  EXPECT_EQ(with.documents[0].size.value().bytes, 3 * 41);
  EXPECT_EQ(with.documents[0].size.value().words, 21);
  EXPECT_EQ(with.documents[3].tokens, 0) << "of one token";
  const std::string bare = run.write_text("bare", "numbers", true, /*with_sizes=*/false);
  const CheckpointEvaluation without = run.evaluate(options, *make_solo_communicator(), bare);
  EXPECT_FALSE(without.documents[0].size);
  EXPECT_EQ(without.documents[0].nll, with.documents[0].nll);
  EXPECT_THAT(evaluation_table({"strided", {without}, {}}), HasSubstr("has no .sizes file"));
  EXPECT_THAT(evaluation_json({"strided", {without}, {}}), HasSubstr("\"bytes\": null"));
  EXPECT_THAT(evaluation_json({"strided", {with}, {}}), HasSubstr("\"bytes\": 123"));
}

TEST(Evaluate, BeginsRollingWindowsWithThePrefixToken) {
  const EvaluatedRun run(testing::small_config(), 3);
  EvaluationOptions options = options_of(WindowMethod::kRolling);
  const double by_default = run.evaluate_alone(options).loss;
  options.prefix_token = kEod;
  EXPECT_EQ(run.evaluate_alone(options).loss, by_default);
  options.prefix_token = 3;
  EXPECT_NE(run.evaluate_alone(options).loss, by_default);
  options.prefix_token = kVocabulary;
  EXPECT_THAT(error_of([&] { run.evaluate_alone(options); }),
              HasSubstr("--prefix-token 37: lies outside the vocabulary"));
  options = options_of(WindowMethod::kStrided);
  options.prefix_token = 3;
  EXPECT_THAT(error_of([&] { run.evaluate_alone(options); }),
              HasSubstr("--prefix-token 3: only rolling windows"));
}

TEST(EvaluationReport, SaysWhichWindowsGiveWhatIsMissing) {
  CheckpointEvaluation evaluation;
  evaluation.bits_per_byte = 2.5;
  const auto report = [](const std::vector<CheckpointEvaluation>& evaluations) {
    return EvaluationReport{"strided", evaluations, {}};
  };
  EXPECT_THAT(evaluation_table(report({evaluation})), Not(HasSubstr("rolling")));
  EXPECT_THAT(evaluation_json(report({evaluation})), HasSubstr("\"bits_per_byte\": 2.5"));
  CheckpointEvaluation partial = evaluation;
  partial.bits_per_byte.reset();
  EXPECT_THAT(evaluation_table(report({evaluation, partial})),
              HasSubstr("windows that score all of it (rolling"));
  EXPECT_THAT(evaluation_json(report({partial})), HasSubstr("\"bits_per_byte\": null"));
}

}  // namespace
}  // namespace polyhead
