// Last words, against the whole distribution of every position; on one rank and on several.
#include "scripts/lambada.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "data/tokenize.h"
#include "tests/support/ranks.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using ::testing::HasSubstr;
using testing::TrainingRun;

constexpr std::int64_t kContext = 6, kVocabulary = 257;

// Letters in a circle, which a model learns in some steps, and passages that follow it or do not.
class LambadaRun : public ::testing::Test {
 protected:
  static constexpr int kSteps = 60;

  LambadaRun() {
    std::string text;
    for (int i = 0; i < 400; ++i) text += std::string(1, "abc"[i % 3]) + ' ';
    testing::write_file(run_.folder() / "circle.txt", text);
    const std::string data = (run_.folder() / "circle").string();
    tokenize({.inputs = {run_.folder() / "circle.txt"}, .format = {}, .output = data},
             Tokenizer("bytes"));
    run_.config.model.vocab_size = kVocabulary;
    run_.config.data.train = run_.config.data.validation = {{data, 1.0}};
    run_.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      testing::train_for(trainer, kSteps);
      trainer.save();
    });
    std::string lines;
    for (const std::string& passage : passages_) lines += "{\"text\": \"" + passage + "\"}\n";
    testing::write_file(run_.folder() / "passages.jsonl", lines);
  }

  LambadaOptions options(int tensor_ranks = 1) const {
    return {.text = run_.folder() / "passages.jsonl",
            .tokenizer = {},
            .context = kContext,
            .prefix_token = {},
            .inference = {.tensor_parallel_size = tensor_ranks, .device = DeviceChoice::kCpu}};
  }
  LambadaScore score(const LambadaOptions& options, const Communicator& world) const {
    omp_set_num_threads(1);
    return score_lambada(run_.checkpoint(kSteps), options, world);
  }
  LambadaScore score_alone(const LambadaOptions& options) const {
    return score(options, *make_solo_communicator());
  }

  TrainingRun run_;
  std::vector<std::string> passages_ = {"a b c a",  "b c a",     "c a b c a b", "a c",
                                        "b",        "a b b",     "c a b",       "b c bc",
                                        "c a b ca", "b c a b a", "c a"};
};

// The losses of all tokens in the place of each target tell which is the likeliest.
TEST_F(LambadaRun, EqualsTheWholeDistribution) {
  const std::unique_ptr<Communicator> solo = make_solo_communicator();
  TensorParallel parallel(*solo, /*sequence_parallel=*/false);
  Model model(run_.config.model, kContext, parallel, DType::kF32);
  ParameterStore store(model.parameters(), DType::kF32, Device::kCpu);
  load_parameters(run_.checkpoint(kSteps), store);

  double log_likelihood = 0;
  std::int64_t correct = 0;
  for (const std::string& passage : passages_) {
    const LambadaExample example =
        lambada_example(passage, Tokenizer("bytes"), kContext, std::nullopt);
    const auto length = static_cast<std::int64_t>(example.tokens.size()) - 1;
    Tensor tokens = Tensor::empty({length}, DType::kI32);
    std::copy_n(example.tokens.begin(), length, tokens.data<std::int32_t>());
    const Tensor h = model.infer(tokens, 1);
    std::vector<Tensor> losses;  // of each token of the vocabulary
    for (std::int32_t token = 0; token < kVocabulary; ++token) {
      Tensor targets = Tensor::empty({length}, DType::kI32);
      std::fill_n(targets.data<std::int32_t>(), length, token);
      losses.push_back(model.output_loss().losses(h, targets));
    }
    bool greedy = true;
    for (std::int64_t i = example.first_scored - 1; i < length; ++i) {
      const auto loss = [&](std::int32_t token) {
        return losses[static_cast<std::size_t>(token)].data<float>()[i];
      };
      const std::int32_t target = example.tokens[static_cast<std::size_t>(i + 1)];
      log_likelihood -= loss(target);
      for (std::int32_t token = 0; token < kVocabulary; ++token) {
        greedy = greedy && loss(token) >= loss(target);
      }
    }
    correct += greedy;
  }
  const LambadaScore score = score_alone(options());
  const auto count = static_cast<std::int64_t>(passages_.size());
  EXPECT_EQ(score.examples, count);
  EXPECT_EQ(score.correct, correct);
  EXPECT_NEAR(score.accuracy, static_cast<double>(correct) / static_cast<double>(count), 1e-12);
  EXPECT_NEAR(score.perplexity / std::exp(-log_likelihood / static_cast<double>(count)), 1, 1e-5);
  EXPECT_GT(correct, 2) << "nothing was learned, so that this test says little";
  EXPECT_LT(correct, count - 2);
}

TEST_F(LambadaRun, IsTheSameOnAnyLayout) {
  const LambadaScore alone = score_alone(options());
  testing::for_each_group({1, 2, 3, 4}, [&](const Communicator& world) {
    for (const int tensor_ranks : {1, 2, 4}) {
      if (world.size() % tensor_ranks != 0) continue;
      SCOPED_TRACE(fmt::format("{} ranks, tp {}", world.size(), tensor_ranks));
      const LambadaScore score = this->score(options(tensor_ranks), world);
      EXPECT_EQ(score.correct, alone.correct);
      EXPECT_NEAR(score.perplexity / alone.perplexity, 1, 1e-5);
    }
  });
}

TEST_F(LambadaRun, RefusesWhatItCannotScore) {
  LambadaOptions asked = options();
  asked.context = 1;
  EXPECT_THAT(error_of([&] { score_alone(asked); }),
              HasSubstr("passage 1: the last word has 2 tokens, more than the context of 1"));
  asked.context = 0;
  EXPECT_THAT(error_of([&] { score_alone(asked); }), HasSubstr("--context 0"));
  asked = options();
  asked.prefix_token = 257;
  EXPECT_THAT(error_of([&] { score_alone(asked); }), HasSubstr("--prefix-token 257: lies outside"));
  asked = options();
  asked.text = run_.folder() / "empty.jsonl";
  testing::write_file(asked.text, "{\"text\": \"\"}\n");
  EXPECT_THAT(error_of([&] { score_alone(asked); }), HasSubstr("empty.jsonl: has no passages"));
  testing::write_file(asked.text, "{\"txt\": \"a b\"}\n");
  EXPECT_THAT(error_of([&] { score_alone(asked); }), HasSubstr("empty.jsonl:1: not an object"));
}

std::string last_word_of(const std::string& text, std::int64_t context = 100) {
  const LambadaExample example = lambada_example(text, Tokenizer("bytes"), context, std::nullopt);
  return Tokenizer("bytes").decode(
      std::span(example.tokens).subspan(static_cast<std::size_t>(example.first_scored)));
}

TEST(LambadaExample, SplitsAtTheLastSpace) {
  EXPECT_EQ(last_word_of("ab cd ef"), " ef");
  EXPECT_EQ(last_word_of("ab\ncd"), "ab\ncd");    // a space alone parts words
  EXPECT_EQ(last_word_of("ab \n cd"), " \n cd");  // all white space goes with the word
  EXPECT_EQ(last_word_of("ab cd "), " ") << "as lm-evaluation-harness has it";
  EXPECT_EQ(last_word_of("word"), "word");
}

TEST(LambadaExample, BeginsWithThePrefix) {
  const Tokenizer bytes("bytes");
  EXPECT_THAT(lambada_example("a b", bytes, 9, std::nullopt).tokens, ElementsAre('a', ' ', 'b'));
  EXPECT_THAT(lambada_example("a b", bytes, 9, 7).tokens, ElementsAre(7, 'a', ' ', 'b'));
  EXPECT_EQ(lambada_example("a b", bytes, 9, 7).first_scored, 2);
  // One word has nothing before it but the end of the document before.
  EXPECT_THAT(lambada_example("b", bytes, 9, std::nullopt).tokens, ElementsAre(256, 'b'));
  EXPECT_THAT(lambada_example("b", bytes, 9, 7).tokens, ElementsAre(7, 'b'));
}

TEST(LambadaExample, LosesItsBeginningBeyondTheContext) {
  const LambadaExample example = lambada_example("abcd ef", Tokenizer("bytes"), 4, std::nullopt);
  EXPECT_THAT(example.tokens, ElementsAre('c', 'd', ' ', 'e', 'f'));
  EXPECT_EQ(example.first_scored, 2);
}

}  // namespace
}  // namespace polyhead
