// Texts that a small byte-level model continues, on one rank and on several.
#include "scripts/generation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "data/tokenize.h"
#include "layers/huggingface/config_json.h"
#include "layers/huggingface/tensor_layout.h"
#include "tests/support/ranks.h"
#include "tests/support/training_run.h"

namespace polyhead {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TrainingRun;

// Characters of one to four bytes, and the end of the document: a circle of 12 tokens.
const std::string kDocument = "a\u00e9\u20ac\U0001F600!";
constexpr std::int32_t kEod = 256;

ModelConfig model_of(const std::string& variant) {
  for (const testing::Variant& each : testing::all_variants()) {
    if (each.name == variant) return each.config;
  }
  POLYHEAD_CHECK(false, "no variant {}", variant);
}

struct Written {
  Generation generation;
  std::vector<std::string> pieces;
  std::string text() const {
    std::string whole;
    for (const std::string& piece : pieces) whole += piece;
    return whole;
  }
};

// A checkpoint that has learnt the document by heart. Under mpirun every rank has its own.
class ByteRun {
 public:
  static constexpr int kSteps = 60;

  explicit ByteRun(ModelConfig model) : run_(model) {
    TokenizeOptions text{{run_.folder() / "text.txt"}, {}, (run_.folder() / "bytes").string()};
    text.format.separator = "---";
    std::string documents;
    for (int i = 0; i < 40; ++i) documents += kDocument + "\n---\n";
    testing::write_file(text.inputs.front(), documents);
    tokenize(text, Tokenizer("bytes"));
    run_.config.model.vocab_size = 257;
    run_.config.data.train = {{text.output, 1.0}};
    run_.config.data.validation.clear();
    run_.config.data.sequence_length = kTrainedLength;
    run_.config.optimizer.learning_rate = 1e-2;
    run_.config.training.eval_interval = 0;
    run_.config.training.train_steps = kSteps;
    run_.config = resolved(run_.config);
    run_.run(1, 1, [&](Trainer& trainer, const Communicator&) {
      trainer.initialize();
      testing::train_for(trainer, kSteps);
      trainer.save();
    });
  }

  Written generate(const std::string& prompt, const GenerationOptions& options,
                   const Communicator& world) const {
    return generate_from(checkpoint(), prompt, options, world);
  }
  Written generate(const std::string& prompt, const GenerationOptions& options = {}) const {
    return generate(prompt, options, *make_solo_communicator());
  }

  // From a copy of the checkpoint whose config.json names no special tokens, with another
  // generation_config.json.
  Written generate_with(const std::string& generation_config, const std::string& prompt,
                        const GenerationOptions& options = {}) const {
    const testing::TemporaryFolder folder;
    const std::filesystem::path copy = folder / "checkpoint";
    std::filesystem::copy(checkpoint(), copy, std::filesystem::copy_options::recursive);
    TrainerState state = read_trainer_state(copy);
    const auto write = [&](const std::string& name, const std::string& text) {
      std::filesystem::remove(copy / name);
      const FileRecord written = write_durably(copy, name, text);
      std::ranges::replace_if(
          state.files, [&](const FileRecord& file) { return file.name == name; }, written);
    };
    write("config.json", huggingface_config_json(model(), kTrainedLength));
    write("generation_config.json", generation_config);
    testing::write_file(copy / "trainer.json", to_json(state));
    return generate_from(copy, prompt, options, *make_solo_communicator());
  }

  std::filesystem::path checkpoint() const { return run_.checkpoint(kSteps); }
  const ModelConfig& model() const { return run_.config.model; }

  static constexpr std::int64_t kTrainedLength = 24;

 private:
  static Written generate_from(const std::filesystem::path& checkpoint, const std::string& prompt,
                               const GenerationOptions& options, const Communicator& world) {
    omp_set_num_threads(1);
    GenerationOptions own = options;
    own.inference = {.tensor_parallel_size = world.size(), .device = DeviceChoice::kCpu};
    Written written;
    written.generation =
        polyhead::generate(checkpoint, prompt, own, world,
                           [&](std::string_view piece) { written.pieces.emplace_back(piece); });
    return written;
  }

  TrainingRun run_;
};

// The likeliest tokens, by the losses of all of them behind the text as it is, without filling.
std::vector<std::int32_t> argmax_of_losses(const ByteRun& run, std::vector<std::int32_t> tokens,
                                           int count) {
  const std::unique_ptr<Communicator> solo = make_solo_communicator();
  TensorParallel parallel(*solo, /*sequence_parallel=*/false);
  Model model(run.model(), 1000, parallel, DType::kF32);
  ParameterStore store(model.parameters(), DType::kF32, Device::kCpu);
  load_parameters(run.checkpoint(), store, stored_layout(run.checkpoint(), run.model()));
  Tensor all = Tensor::empty({257}, DType::kI32);
  for (std::int32_t id = 0; id < 257; ++id) all.data<std::int32_t>()[id] = id;
  std::vector<std::int32_t> chosen;
  for (int i = 0; i < count; ++i) {
    const auto length = static_cast<std::int64_t>(tokens.size());
    Tensor ids = Tensor::empty({length}, DType::kI32);
    std::copy(tokens.begin(), tokens.end(), ids.data<std::int32_t>());
    const Tensor h = model.infer(ids, 1);
    Tensor copies = Tensor::empty_like(h, {257, h.cols()});
    for (std::int64_t row = 0; row < 257; ++row) {
      copies.row_slice(row, row + 1).copy_from(h.row_slice(length - 1, length));
    }
    const Tensor losses = model.output_loss().losses(copies, all);
    const float* first = losses.data<float>();
    chosen.push_back(static_cast<std::int32_t>(std::min_element(first, first + 257) - first));
    tokens.push_back(chosen.back());
  }
  return chosen;
}

class GenerateVariant : public ::testing::TestWithParam<std::string> {};

// Beyond 64 tokens, where the filled length grows.
TEST_P(GenerateVariant, GreedyTakesTheLikeliestTokenOfEveryStep) {
  const ByteRun run(model_of(GetParam()));
  const std::vector<std::int32_t> want = argmax_of_losses(run, {'x', 'a'}, 70);
  testing::for_each_group({1, 2, 4}, [&](const Communicator& world) {
    const GenerationOptions options{.max_new_tokens = 70, .ignore_eos = true};
    EXPECT_EQ(run.generate("xa", options, world).generation.tokens, want);
  });
}

INSTANTIATE_TEST_SUITE_P(Attention, GenerateVariant,
                         ::testing::Values("gqa2", "mla", "swa", "gemma2", "alibi_mqa"),
                         [](const auto& test) { return test.param; });

class Generate : public ::testing::Test {
 protected:
  static const ByteRun& run() {
    static const ByteRun trained(model_of("gqa2"));
    return trained;
  }
};

TEST_F(Generate, EndsWithTheDocument) {
  const Written written = run().generate("a\u00e9");
  EXPECT_EQ(written.text(), "\u20ac\U0001F600!\n");
  EXPECT_EQ(written.generation.tokens.back(), kEod);
  const GenerationOptions on{.max_new_tokens = 30, .ignore_eos = true};
  const Written further = run().generate("a\u00e9", on);
  EXPECT_EQ(further.generation.tokens.size(), 30u);
  EXPECT_THAT(further.text(), HasSubstr("\U0001F600!\n" + kDocument + "\n"));
}

TEST_F(Generate, EndsWithTheTokensThatTheFolderNames) {
  const GenerationOptions options{.max_new_tokens = 30};
  const auto text = [&](const std::string& ends) {
    return run().generate_with(ends, "a\u00e9", options).text();
  };
  EXPECT_EQ(text(R"({"eos_token_id": 33})"), "\u20ac\U0001F600!") << "a token that is text";
  EXPECT_EQ(text(R"({"eos_token_id": [7, 10, 256]})"), "\u20ac\U0001F600!\n");
  EXPECT_EQ(text(R"({"eos_token_id": null})"), "\u20ac\U0001F600!\n") << "none is named";
  const Written on = run().generate_with(R"({"eos_token_id": 7})", "a\u00e9", options);
  EXPECT_EQ(on.generation.tokens.size(), 30u);
  EXPECT_THAT(on.text(), HasSubstr("\U0001F600!\n" + kDocument + "\n"))
      << "the end of the document is not named";
}

TEST_F(Generate, RefusesEndTokensThatTheModelLacks) {
  const std::string wrong = R"({"eos_token_id": [256, 257]})";
  EXPECT_THAT(error_of([&] { run().generate_with(wrong, "a"); }),
              HasSubstr("generation_config.json: eos_token_id: got [256,257]; must be a token of "
                        "the vocabulary, from 0 to 256"));
  EXPECT_EQ(run()
                .generate_with(wrong, "a", {.max_new_tokens = 5, .ignore_eos = true})
                .generation.tokens.size(),
            5u);
}

TEST_F(Generate, BeginsADocumentWithoutAPrompt) {
  const Written written = run().generate("");
  EXPECT_EQ(written.generation.prompt, std::vector<std::int32_t>{kEod});
  EXPECT_EQ(written.text(), kDocument + "\n");
}

TEST_F(Generate, WritesWholeCharacters) {
  testing::for_each_group({1, 2, 4}, [&](const Communicator& world) {
    const Written written = run().generate("a", {}, world);
    if (world.rank() > 0) {
      EXPECT_TRUE(written.pieces.empty());
      return;
    }
    // One piece for each token and one for the end.
    const std::vector<std::string> want = {"", "\u00e9",     "",  "",   "\u20ac", "", "",
                                           "", "\U0001F600", "!", "\n", "",       ""};
    EXPECT_EQ(written.pieces, want);
  });
}

TEST_F(Generate, ACharacterThatIsCutShortIsReplaced) {
  EXPECT_EQ(run().generate("a", {.max_new_tokens = 4}).text(), "\u00e9\uFFFD");
}

TEST_F(Generate, DrawsTheSameTokensOnAnyNumberOfRanks) {
  const GenerationOptions options{
      .max_new_tokens = 40,
      .sampling = {.temperature = 3, .top_k = 200, .top_p = 0.98, .seed = 5},
      .ignore_eos = true};
  const std::vector<std::int32_t> alone = run().generate("a", options).generation.tokens;
  testing::for_each_group({1, 2, 4}, [&](const Communicator& world) {
    EXPECT_EQ(run().generate("a", options, world).generation.tokens, alone);
  });
  GenerationOptions other = options;
  other.sampling.seed = 6;
  EXPECT_NE(run().generate("a", other).generation.tokens, alone);
}

TEST_F(Generate, WarnsOfPositionsBeyondTraining) {
  const auto warning = [&](std::int64_t new_tokens) {
    ::testing::internal::CaptureStderr();
    run().generate("abcd", {.max_new_tokens = new_tokens});
    return ::testing::internal::GetCapturedStderr();
  };
  EXPECT_EQ(warning(20), "");
  EXPECT_THAT(warning(21), HasSubstr("the text may reach 25 tokens, but"));
}

TEST_F(Generate, RefusesWhatItCannotContinue) {
  const auto refusal = [&](const std::string& prompt, const GenerationOptions& options = {}) {
    return error_of([&] { run().generate(prompt, options); });
  };
  EXPECT_THAT(refusal("ab\xff"), HasSubstr("the prompt is not UTF-8 at byte 2"));
  EXPECT_THAT(refusal("a", {.max_new_tokens = 0}), HasSubstr("--max-new-tokens 0: must lie"));
  EXPECT_THAT(refusal("a", {.sampling = {.top_p = 0}}), HasSubstr("--top-p 0: must be"));
}

// What a rank alone meets ends all of them, with one message.
TEST_F(Generate, TellsAllRanksWhereTheTextCannotBeWritten) {
  testing::for_each_group({1, 2}, [&](const Communicator& world) {
    const auto full = [](std::string_view) { fail("the disk is full"); };
    const GenerationOptions options{
        .inference = {.tensor_parallel_size = world.size(), .device = DeviceChoice::kCpu}};
    EXPECT_THAT(
        error_of([&] { polyhead::generate(run().checkpoint(), "a", options, world, full); }),
        HasSubstr("the disk is full"));
  });
}

TEST(GenerateLearnedPositions, RefusesMoreThanThereAre) {
  ModelConfig model = testing::small_config();
  model.position_embedding = PositionEmbedding::kLearned;
  model.max_position_embeddings = 30;
  const ByteRun run(model);
  const GenerationOptions all{.max_new_tokens = 27, .ignore_eos = true};
  EXPECT_EQ(run.generate("abc", all).generation.tokens.size(), 27u);
  EXPECT_THAT(error_of([&] { run.generate("abcd", all); }),
              HasSubstr("--max-new-tokens 27: with the prompt's 4 tokens these are more than the "
                        "30 positions"));
  EXPECT_THAT(error_of([&] { run.generate(std::string(30, 'a')); }),
              HasSubstr("the prompt has 30 tokens, but"));
}

TEST(GenerateWithoutTokenizer, IsRefused) {
  const TrainingRun run;
  run.run(1, 1, [&](Trainer& trainer, const Communicator&) {
    trainer.initialize();
    trainer.save();
  });
  EXPECT_THAT(error_of([&] {
                polyhead::generate(run.checkpoint(0), "a", {}, *make_solo_communicator(),
                                   [](std::string_view) {});
              }),
              HasSubstr("the folder has no tokenizer"));
}

}  // namespace
}  // namespace polyhead
