#include "scripts/evaluation_comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "data/indexed_dataset_writer.h"
#include "scripts/evaluation_report.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using namespace testing;

// Documents of 10, 20, ... tokens that each need `nats` a token; twice as many bytes.
CheckpointEvaluation evaluation_of(const std::string& name, const std::vector<double>& nats,
                                   std::int64_t tokens_each = 10) {
  CheckpointEvaluation evaluation;
  evaluation.checkpoint = name;
  evaluation.dataset = "text";
  evaluation.tokenizer_fingerprint = "numbers";
  evaluation.bits_per_byte = 1;
  evaluation.token_perplexity = 12345;
  for (std::size_t i = 0; i < nats.size(); ++i) {
    const std::int64_t tokens = tokens_each * static_cast<std::int64_t>(i + 1);
    const double nll = nats[i] * static_cast<double>(tokens);
    evaluation.documents.push_back(
        {tokens, nll, TextSize{20 * static_cast<std::int64_t>(i + 1), 1}});
    evaluation.windows.push_back({static_cast<std::int64_t>(i), tokens, nll});
  }
  return evaluation;
}

// As if all windows were of one document.
CheckpointEvaluation one_document(CheckpointEvaluation evaluation) {
  DocumentScore whole{0, 0, TextSize{100, 10}};
  for (WindowScore& window : evaluation.windows) {
    window.document = 0;
    whole.tokens += window.tokens;
    whole.nll += window.nll;
  }
  evaluation.documents = {whole};
  return evaluation;
}

TEST(CompareWithFirst, PairsDocuments) {
  const auto comparisons =
      compare_with_first({evaluation_of("parent", {2, 3, 4}), evaluation_of("child", {2.1, 2.8, 4}),
                          evaluation_of("twin", {2, 3, 4})});
  ASSERT_EQ(comparisons.size(), 2u);
  const Comparison& child = comparisons[0];
  EXPECT_EQ(child.checkpoint, "child");
  EXPECT_EQ(child.baseline, "parent");
  EXPECT_EQ(child.measure, "token");
  EXPECT_EQ(child.unit, "document");
  EXPECT_EQ(child.units, 3);
  EXPECT_NEAR(child.difference->mean, (0.1 * 10 - 0.2 * 20) / 60, 1e-12);
  EXPECT_NEAR(child.difference->win_rate, 0.5, 1e-12);
  EXPECT_LT(child.difference->interval->low, child.difference->mean);
  EXPECT_GT(child.difference->interval->high, child.difference->mean);
  EXPECT_EQ(comparisons[1].difference->interval->low, 0);
  EXPECT_EQ(comparisons[1].difference->interval->high, 0);
}

TEST(CompareWithFirst, DrawsBlocksOfWindowsOfASingleDocument) {
  const std::vector<double> first(27, 2.0);
  std::vector<double> other = first;
  for (std::size_t i = 0; i < other.size(); ++i) other[i] += i < 3 ? 0.3 : -0.1;
  const CheckpointEvaluation parent = one_document(evaluation_of("parent", first)),
                             child = one_document(evaluation_of("child", other));
  const auto comparisons = compare_with_first({parent, child});
  EXPECT_EQ(comparisons[0].unit, "block of 3 windows");
  EXPECT_EQ(comparisons[0].units, 9);
  EXPECT_NEAR(comparisons[0].difference->win_rate, 8.0 / 9, 1e-12);
  EXPECT_TRUE(comparisons[0].difference->interval);
  EXPECT_THAT(evaluation_table({"strided", {parent, child}, comparisons}),
              HasSubstr("The text is one document"));
}

TEST(CompareWithFirst, CountsBytesAcrossTokenizers) {
  const CheckpointEvaluation parent = evaluation_of("parent", {2, 3, 4});
  CheckpointEvaluation child = evaluation_of("child", {1.1, 1.4, 2.1}, /*tokens_each=*/19);
  child.dataset = "other_text";
  child.tokenizer_fingerprint = "letters";
  auto comparison = compare_with_first({parent, child}).front();
  EXPECT_EQ(comparison.measure, "byte");
  EXPECT_NEAR(comparison.difference->mean,
              (1.1 * 19 - 20 + 1.4 * 38 - 60 + 2.1 * 57 - 120) / (20 + 40 + 60), 1e-12);
  const std::string table = evaluation_table({"rolling", {parent, child}, {comparison}});
  EXPECT_THAT(table, HasSubstr("several tokenizers"));
  EXPECT_THAT(table, Not(HasSubstr("| token ppl")));
  EXPECT_THAT(table, Not(HasSubstr("12345")));
  EXPECT_THAT(table, HasSubstr("bits/byte"));
  EXPECT_THAT(evaluation_json({"rolling", {parent, child}, {comparison}}),
              HasSubstr("\"same_tokenizer\": false"));
  EXPECT_THAT(evaluation_table({"rolling", {parent, parent}, {}}), HasSubstr("| token ppl"));

  child.documents[1].size.reset();
  comparison = compare_with_first({parent, child}).front();
  EXPECT_FALSE(comparison.difference);
  EXPECT_THAT(comparison.why_not, HasSubstr("has no .sizes file"));
  child.bits_per_byte.reset();
  EXPECT_THAT(compare_with_first({parent, child}).front().why_not,
              HasSubstr("do not score the whole text"));
}

TEST(CompareWithFirst, DoesNotPairOtherTokens) {
  const auto comparison =
      compare_with_first({evaluation_of("parent", {2, 3}), evaluation_of("child", {2, 3}, 9)})
          .front();
  EXPECT_FALSE(comparison.difference);
  EXPECT_THAT(comparison.why_not, HasSubstr("--context"));
}

class SameText : public ::testing::Test {
 protected:
  IndexedDataset dataset(const std::string& name, const std::string& text_hash,
                         const std::string& detokenizer = "", std::int64_t bytes = 9) {
    const std::string prefix = (folder_ / name).string();
    IndexedDatasetWriter writer(prefix, 37);
    writer.add_document(std::vector<std::int32_t>{1, 2, 3});
    DatasetDescription description;
    description.tokenizer = description.tokenizer_fingerprint = name;
    description.bytes = bytes;
    description.detokenizer = detokenizer;
    description.text_xxh3 = text_hash;
    writer.finish(description);
    return IndexedDataset(prefix);
  }

  TemporaryFolder folder_;
};

TEST_F(SameText, IsKnownByItsHash) {
  const IndexedDataset a = dataset("a", "1234"), same = dataset("same", "1234"),
                       other = dataset("other", "1235"), older = dataset("older", ""),
                       longer = dataset("longer", "", "", 10),
                       tidy = dataset("tidy", "1234", "wikitext");
  EXPECT_NO_THROW(require_same_text({&a, &a, &same}));
  EXPECT_NO_THROW(require_same_text({&a, &older}));
  EXPECT_THAT(error_of([&] {
                require_same_text({&a, &same, &other});
              }),
              HasSubstr("are different texts"));
  EXPECT_THAT(error_of([&] {
                require_same_text({&a, &longer});
              }),
              HasSubstr("(1 documents, 10 bytes) are different texts"));
  EXPECT_THAT(error_of([&] { require_same_text({&a, &tidy}); }), HasSubstr("--detokenize"));
}

TEST_F(SameText, NeedsADescription) {
  const IndexedDataset a = dataset("a", "1234");
  dataset("bare", "1234");
  std::filesystem::remove(folder_ / "bare.json");
  const IndexedDataset bare((folder_ / "bare").string());
  EXPECT_NO_THROW(require_same_text({&bare, &bare}));
  EXPECT_THAT(error_of([&] { require_same_text({&a, &bare}); }), HasSubstr("bare.json is missing"));
}

}  // namespace
}  // namespace polyhead
