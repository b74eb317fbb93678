#include "data/training_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "framework/files/content_hash.h"
#include "tests/data/dataset_files.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::HasSubstr;
using namespace testing;

constexpr std::int64_t kLength = 6;
constexpr std::int64_t kVocabulary = 60000;
// 117 tokens: 19 samples of 6 an epoch.
const std::vector<std::int32_t> kLengths = {13, 0, 40, 1, 7, 25, 31};

class TrainingDataTest : public ::testing::Test {
 protected:
  TrainingDataTest() {
    options_.sources = {{write_dataset(folder_ / "a", numbered_documents(kLengths), kVocabulary)}};
    options_.sequence_length = kLength;
    options_.seed = 1234;
  }

  std::string error() {
    return error_of([&] { TrainingData{options_}; });
  }

  TemporaryFolder folder_;
  TrainingDataOptions options_;
};

std::vector<std::int32_t> values(const Tensor& x) {
  return {x.data<std::int32_t>(), x.data<std::int32_t>() + x.numel()};
}

TEST_F(TrainingDataTest, TargetsAreTheNextTokens) {
  TrainingData data(options_);
  const Batch batch = data.batch(0, 19);
  EXPECT_EQ(batch.valid_targets, 19 * kLength);
  EXPECT_FALSE(batch.document_start);
  std::map<std::int32_t, int> seen;
  const auto tokens = values(batch.tokens), targets = values(batch.targets);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    ++seen[tokens[i]];
    // Within a document the target is the next number; otherwise it begins another.
    EXPECT_TRUE(targets[i] == tokens[i] + 1 || targets[i] % 1000 == 0);
    if (i % kLength != kLength - 1) {
      EXPECT_EQ(targets[i], tokens[i + 1]);
    }
  }
  EXPECT_EQ(seen.size(), 19u * kLength);  // each once
}

// What a run reads, in order, when it changes its batch size and number of ranks on the way. Each
// rank opens the data anew, as a resumed run does.
std::vector<std::int32_t> read_run(const TrainingDataOptions& options,
                                   const std::vector<std::pair<std::int64_t, int>>& steps) {
  std::vector<std::int32_t> all;
  std::int64_t consumed = 0;
  for (const auto& [global_batch, ranks] : steps) {
    const std::int64_t share = global_batch / ranks;
    for (int rank = 0; rank < ranks; ++rank) {
      TrainingData data(options);
      const auto tokens = values(data.batch(consumed + rank * share, share).tokens);
      all.insert(all.end(), tokens.begin(), tokens.end());
    }
    consumed += global_batch;
  }
  return all;
}

TEST_F(TrainingDataTest, EverySampleOnceWhateverTheRanksAndResumes) {
  options_.sources.push_back(
      {write_dataset(folder_ / "b", numbered_documents({50, 50}), kVocabulary), 2.5});
  for (const SampleOrder order : {SampleOrder::kPolyhead, SampleOrder::kMegatron}) {
    options_.order = order;
    options_.num_samples = 120;
    TrainingData data(options_);
    const auto expected = values(data.batch(0, 120).tokens);  // epochs and sources end within
    EXPECT_EQ(read_run(options_, {{120, 1}}), expected);
    EXPECT_EQ(read_run(options_, {{60, 4}, {60, 2}}), expected);
    EXPECT_EQ(read_run(options_, {{8, 1}, {8, 2}, {16, 4}, {1, 1}, {3, 3}, {84, 12}}), expected);
  }
}

TEST_F(TrainingDataTest, OrderIgnoresTheLengthOfTheRun) {
  options_.num_samples = 10;
  TrainingData shorter(options_);
  options_.num_samples = 1000;
  TrainingData longer(options_);
  EXPECT_EQ(values(shorter.batch(3, 40).tokens), values(longer.batch(3, 40).tokens));
}

TEST_F(TrainingDataTest, TellsWhereDocumentsBegin) {
  options_.attend_across_documents = false;
  TrainingData data(options_);
  const Batch batch = data.batch(0, 19);
  const auto tokens = values(batch.tokens), starts = values(batch.document_start);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const std::size_t row = i / kLength * kLength;
    const std::size_t start = row + static_cast<std::size_t>(starts[i]);
    ASSERT_LE(start, i);
    EXPECT_EQ(tokens[start] / 1000, tokens[i] / 1000);  // the same document
    if (start > row) {
      EXPECT_NE(tokens[start - 1] / 1000, tokens[i] / 1000);
    }
  }
}

TEST_F(TrainingDataTest, MasksTheLossAfterEod) {
  const Documents documents = {{1, 2, 3, 9}, {4, 9}, {5, 6, 7, 8, 9}, {9, 1}};
  options_.sources = {{write_dataset(folder_ / "eod", documents, 10, /*eod_id=*/9)}};
  options_.sequence_length = 4;
  options_.eod_mask_loss = true;
  TrainingData data(options_);
  const Batch batch = data.batch(0, 3);
  const auto tokens = values(batch.tokens), targets = values(batch.targets);
  std::int64_t masked = 0;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    EXPECT_EQ(targets[i] == -1, tokens[i] == 9);
    masked += targets[i] == -1;
  }
  EXPECT_GT(masked, 0);
  EXPECT_EQ(batch.valid_targets, 12 - masked);
}

TEST_F(TrainingDataTest, SplitsByDocuments) {
  options_.split = "5,1,1";
  TrainingData train(options_);
  EXPECT_EQ(train.token_count(), 13 + 40 + 1 + 7);
  options_.part = DatasetPart::kValidation;
  TrainingData validation(options_);
  for (const std::int32_t token : values(validation.batch(0, 4).tokens)) EXPECT_EQ(token / 1000, 5);
}

TEST_F(TrainingDataTest, NamesATokenOutsideTheVocabulary) {
  const std::string prefix = options_.sources[0].path;
  std::filesystem::remove(prefix + ".json");
  EXPECT_THAT(error(), HasSubstr("set data.tokenizer or model.vocab_size"));
  options_.vocab_size = 6030;
  TrainingData data(options_);
  EXPECT_THAT(error_of([&] { data.batch(0, 19); }),
              HasSubstr("a.bin: token 6030 at offset 30 of document 6 lies outside"));
}

TEST_F(TrainingDataTest, RefusesWhatCannotBeTrainedOn) {
  options_.vocab_size = 100;
  EXPECT_THAT(error(), HasSubstr("model.vocab_size is 100, but the tokenizer of"));
  options_.vocab_size.reset();
  options_.sequence_length = 117;
  EXPECT_THAT(error(), HasSubstr("117 tokens are too few"));
  EXPECT_THAT(error(), HasSubstr("/a: documents [0, 7) for training"));
  options_.sequence_length = kLength;
  options_.sources[0].weight = 0;
  EXPECT_THAT(error(), HasSubstr("weight 0 is not a positive number"));
  options_.sources[0].weight = 1e-9;
  options_.sources.push_back({options_.sources[0].path, 1.0});
  EXPECT_THAT(error(), HasSubstr("too small beside the others"));
  options_.sources.clear();
  EXPECT_THAT(error(), HasSubstr("no dataset is named"));
}

TEST_F(TrainingDataTest, RefusesSourcesOfTwoTokenizers) {
  const std::string other = write_dataset(folder_ / "b", numbered_documents({50}), kVocabulary);
  std::string description = read_file(other + ".json");
  const std::string key = "\"tokenizer_fingerprint\": \"numbers\"";
  description.replace(description.find(key), key.size(), "\"tokenizer_fingerprint\": \"other\"");
  write_file(other + ".json", description);
  options_.sources.push_back({other});
  EXPECT_THAT(error(), HasSubstr("made with different tokenizers"));
}

TEST_F(TrainingDataTest, TakesTheTokenizerFromTheConfiguration) {
  const std::string prefix = write_dataset(folder_ / "b", {{1, 2, 256, 3, 4, 256, 5, 6}}, 257);
  options_.sources = {{prefix}};
  options_.tokenizer = "bytes";
  EXPECT_THAT(error(), HasSubstr("was not made with the tokenizer bytes"));
  std::filesystem::remove(prefix + ".json");
  options_.eod_mask_loss = true;
  TrainingData data(options_);
  EXPECT_EQ(data.vocab_size(), 257);
  EXPECT_EQ(data.batch(0, 1).valid_targets, kLength - 2);
  options_.tokenizer.reset();
  options_.vocab_size = 257;
  EXPECT_THAT(error(), HasSubstr("nothing tells which token ends a document"));
}

TEST_F(TrainingDataTest, ChecksTheTokenizersFile) {
  const std::string prefix = options_.sources[0].path;
  const auto replace_in_description = [&](const std::string& from, const std::string& to) {
    std::string description = read_file(prefix + ".json");
    description.replace(description.find(from), from.size(), to);
    write_file(prefix + ".json", description);
  };
  replace_in_description("\"tokenizer_file\": \"\"", "\"tokenizer_file\": \"own.model\"");
  EXPECT_THAT(error(), HasSubstr("own.model, which is not there"));
  write_file(folder_ / "own.model", "pieces");
  EXPECT_THAT(error(), HasSubstr("own.model is not the tokenizer that made"));
  replace_in_description(
      "\"numbers\",\n  \"vocab",
      "\"" + content_hash(std::as_bytes(std::span("pieces", 6))) + "\",\n  \"vocab");
  EXPECT_EQ(TrainingData(options_).tokenizer_files().at(0), folder_ / "own.model");
}

// The description names the file as seen from the folder itself, not from the link to it.
TEST_F(TrainingDataTest, FindsTheTokenizersFileThroughALink) {
  std::filesystem::create_directories(folder_ / "disk" / "data");
  std::filesystem::create_directory_symlink(folder_ / "disk" / "data", folder_ / "link");
  write_file(folder_ / "disk" / "own.model", "pieces");
  const std::string prefix =
      write_dataset(folder_ / "link" / "b", numbered_documents({50}), kVocabulary);
  std::string description = read_file(prefix + ".json");
  const auto replace = [&](const std::string& from, const std::string& to) {
    description.replace(description.find(from), from.size(), to);
  };
  replace("\"tokenizer_file\": \"\"", "\"tokenizer_file\": \"../own.model\"");
  replace("\"numbers\",\n  \"vocab",
          "\"" + content_hash(std::as_bytes(std::span("pieces", 6))) + "\",\n  \"vocab");
  write_file(prefix + ".json", description);
  options_.sources = {{prefix}};
  EXPECT_EQ(std::filesystem::canonical(TrainingData(options_).tokenizer_files().at(0)),
            std::filesystem::canonical(folder_ / "disk" / "own.model"));
}

TEST_F(TrainingDataTest, FingerprintsNameTheContent) {
  const auto before = TrainingData(options_).fingerprints();
  EXPECT_EQ(TrainingData(options_).fingerprints(), before);
  write_dataset(folder_ / "a", numbered_documents({13, 0, 40, 1, 7, 26, 30}), kVocabulary);
  EXPECT_NE(TrainingData(options_).fingerprints(), before);
}

}  // namespace
}  // namespace polyhead
