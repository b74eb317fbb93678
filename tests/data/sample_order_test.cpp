#include "data/sample_order.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <numeric>
#include <set>

#include "data/blend.h"
#include "data/document_split.h"
#include "data/numpy_shuffle.h"
#include "tests/support/temporary_folder.h"

namespace polyhead {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Position = MegatronOrder::Position;

std::vector<int> shuffled_ten(std::uint32_t seed) {
  std::vector<int> values(10);
  std::iota(values.begin(), values.end(), 0);
  std::mt19937 generator(seed);
  numpy_shuffle(std::span(values), generator);
  return values;
}

// numpy.random.RandomState(seed).shuffle(numpy.arange(10))
TEST(NumpyShuffle, KnownAnswers) {
  EXPECT_THAT(shuffled_ten(42), ElementsAre(8, 1, 5, 0, 7, 2, 9, 4, 3, 6));
  EXPECT_THAT(shuffled_ten(0), ElementsAre(2, 8, 4, 9, 1, 6, 7, 3, 0, 5));
  EXPECT_THAT(shuffled_ten(1234), ElementsAre(7, 2, 9, 1, 0, 8, 4, 5, 6, 3));
}

TEST(NumpyShuffle, DrawsTwoWordsAbove32Bits) {
  std::mt19937 generator(5), words(5);
  const std::uint64_t high = words(), low = words();
  EXPECT_EQ(numpy_draw(generator, ~std::uint64_t{0} >> 1),
            (high << 32 | low) & ~std::uint64_t{0} >> 1);
  EXPECT_EQ(numpy_draw(generator, 0xFFFFFFFF), words());
}

TEST(MegatronOrder, SampleIndexKnownAnswer) {
  EXPECT_THAT(megatron_sample_index({3, 2, 4, 5}, {2, 0, 3, 1}, 4, 3),
              ElementsAre(Position{0, 0}, Position{1, 0}, Position{2, 1}, Position{3, 0}));
}

// Follows the samples and checks that the stream they come from is the documents in document_index.
void expect_samples_tile_the_stream(const MegatronOrder& order,
                                    const std::vector<std::int32_t>& lengths, std::int64_t length) {
  std::vector<std::pair<std::int64_t, std::int64_t>> stream;
  for (const std::int64_t document : order.document_index()) {
    for (std::int32_t t = 0; t < lengths[static_cast<std::size_t>(document)]; ++t) {
      stream.emplace_back(document, t);
    }
  }
  for (std::int64_t i = 0; i < order.num_samples(); ++i) {
    std::int64_t at = order.shuffle_index()[static_cast<std::size_t>(i)] * length;
    for (const TokenRange& range : order.sample(i)) {
      EXPECT_LT(range.begin, range.end);
      for (std::int64_t t = range.begin; t < range.end; ++t, ++at) {
        ASSERT_EQ(stream[static_cast<std::size_t>(at)], std::pair(range.document, t));
      }
    }
    EXPECT_EQ(at, order.shuffle_index()[static_cast<std::size_t>(i)] * length + length + 1);
  }
}

TEST(MegatronOrder, OneEpochShufflesDocumentsThenSamples) {
  // 14 tokens, 3 samples of 4: the generator of seed 1234 orders the documents, then the samples.
  const MegatronOrder order({3, 2, 4, 5}, 4, 1234, 3);
  std::mt19937 generator(1234);
  std::vector<std::int64_t> documents = {0, 1, 2, 3}, samples = {0, 1, 2};
  numpy_shuffle(std::span(documents), generator);
  numpy_shuffle(std::span(samples), generator);
  EXPECT_EQ(order.document_index(), documents);
  EXPECT_EQ(order.shuffle_index(), samples);
  expect_samples_tile_the_stream(order, {3, 2, 4, 5}, 4);
}

// numpy.random.RandomState(42) over ten documents, through the class.
TEST(MegatronOrder, DocumentIndexKnownAnswer) {
  const MegatronOrder order({3, 1, 4, 1, 5, 9, 2, 6, 5, 3}, 5, 42, 7);
  EXPECT_EQ(order.num_samples(), 7);
  EXPECT_THAT(order.document_index(), ElementsAre(8, 1, 5, 0, 7, 2, 9, 4, 3, 6));
}

TEST(MegatronOrder, SeparatesAFinalEpochUsedInPart) {
  const std::vector<std::int32_t> lengths = {7, 0, 30, 1, 12, 51};  // 101 tokens, 25 samples of 4
  for (const std::int64_t num_samples : {26, 40, 44, 45, 50, 51, 77}) {
    const MegatronOrder order(lengths, 4, 7, num_samples);
    const std::int64_t epochs = static_cast<std::int64_t>(order.document_index().size()) / 6;
    EXPECT_EQ(epochs, (num_samples * 4 + 101) / 101);
    EXPECT_EQ(order.num_samples(), (epochs * 101 - 1) / 4);
    const std::int64_t before = ((epochs - 1) * 101 - 1) / 4;
    const bool separate = num_samples - before < 20;  // four fifths of 25
    // Separate: the last epoch's documents and samples come last, each exactly once.
    const std::vector<std::int64_t> last(order.document_index().end() - 6,
                                         order.document_index().end());
    std::int64_t largest = 0;
    for (std::int64_t i = 0; i < before; ++i) {
      largest = std::max(largest, order.shuffle_index()[static_cast<std::size_t>(i)]);
    }
    EXPECT_EQ(largest < before, separate) << num_samples;
    if (separate) {
      EXPECT_EQ(std::set<std::int64_t>(last.begin(), last.end()).size(), 6u);
    }
    expect_samples_tile_the_stream(order, lengths, 4);
  }
}

TEST(MegatronOrder, RefusesAPositionBeyondTheRun) {
  const MegatronOrder order({3, 2, 4, 5}, 4, 1234, 3);
  EXPECT_THAT(testing::error_of([&] { order.sample(3); }),
              HasSubstr("sample 3 lies beyond the 3 that sample_order: megatron fixed"));
}

// All (document, token) pairs that the samples of an epoch hold as inputs.
std::multiset<std::pair<std::int64_t, std::int64_t>> inputs_of_epoch(EpochOrder& order,
                                                                     std::int64_t epoch) {
  std::multiset<std::pair<std::int64_t, std::int64_t>> inputs;
  const std::int64_t samples = order.samples_per_epoch();
  for (std::int64_t i = 0; i < samples; ++i) {
    std::vector<std::pair<std::int64_t, std::int64_t>> sample;
    for (const TokenRange& range : order.sample(epoch * samples + i)) {
      EXPECT_LT(range.begin, range.end);
      for (std::int64_t t = range.begin; t < range.end; ++t) sample.emplace_back(range.document, t);
    }
    sample.pop_back();
    inputs.insert(sample.begin(), sample.end());
  }
  return inputs;
}

TEST(EpochOrder, ReadsEveryTokenOnceInAnEpoch) {
  const std::vector<std::int32_t> lengths = {3, 0, 20, 1, 1, 57, 0, 9};  // 91 tokens
  EpochOrder order(lengths, 5, 42, 0);
  EXPECT_EQ(order.samples_per_epoch(), 18);
  for (const std::int64_t epoch : {0, 1, 5}) {
    const auto inputs = inputs_of_epoch(order, epoch);
    EXPECT_EQ(inputs.size(), 90u);
    EXPECT_EQ(
        (std::set<std::pair<std::int64_t, std::int64_t>>(inputs.begin(), inputs.end()).size()),
        90u);
  }
}

TEST(EpochOrder, DependsOnSeedSourceAndEpochAlone) {
  const std::vector<std::int32_t> lengths = {30, 40, 50, 60, 70};
  EpochOrder order(lengths, 8, 42, 0), again(lengths, 8, 42, 0);
  std::vector<std::vector<TokenRange>> forward;
  for (std::int64_t i = 0; i < 100; ++i) forward.push_back(order.sample(i));
  for (std::int64_t i = 100; i-- > 0;) {
    EXPECT_EQ(again.sample(i), forward[static_cast<std::size_t>(i)]);
  }
  const auto differs = [&](EpochOrder other, std::int64_t shift) {
    int different = 0;
    for (std::int64_t i = 0; i < 31; ++i) {
      different += other.sample(i + shift) != forward[static_cast<std::size_t>(i)];
    }
    return different > 20;
  };
  EXPECT_TRUE(differs(EpochOrder(lengths, 8, 43, 0), 0));
  EXPECT_TRUE(differs(EpochOrder(lengths, 8, 42, 1), 0));
  EXPECT_TRUE(differs(EpochOrder(lengths, 8, 42, 0), order.samples_per_epoch()));
}

// The order is part of what a checkpoint promises, so it must not change between versions.
TEST(EpochOrder, KnownAnswer) {
  EpochOrder order({3, 2, 4, 5}, 4, 1234, 0);
  std::vector<std::vector<TokenRange>> epoch;
  for (std::int64_t i = 0; i < 3; ++i) epoch.push_back(order.sample(i));
  EXPECT_THAT(epoch, ElementsAre(ElementsAre(TokenRange{3, 0, 5}),
                                 ElementsAre(TokenRange{2, 1, 4}, TokenRange{0, 0, 2}),
                                 ElementsAre(TokenRange{3, 4, 5}, TokenRange{1, 0, 2},
                                             TokenRange{2, 0, 2})));
}

TEST(EpochOrder, RefusesTooFewTokens) {
  EXPECT_THAT(testing::error_of([&] {
                EpochOrder({3, 2}, 5, 42, 0);
              }),
              HasSubstr("5 tokens are too few for a sample of sequence_length 5"));
  EXPECT_EQ(EpochOrder({3, 3}, 5, 42, 0).samples_per_epoch(), 1);
}

// Megatron's build_blending_indices for these weights, worked by hand.
TEST(Blend, KnownAnswer) {
  const Blend blend({1, 2, 1}, 8);
  std::vector<std::int64_t> sources, indices;
  for (std::int64_t i = 0; i < 8; ++i) {
    sources.push_back(blend.at(i).source);
    indices.push_back(blend.at(i).index);
  }
  EXPECT_THAT(sources, ElementsAre(1, 0, 2, 1, 0, 1, 2, 1));
  EXPECT_THAT(indices, ElementsAre(0, 0, 0, 1, 1, 2, 1, 3));
}

TEST(Blend, CountsEachSourceWithoutGapsAtItsShare) {
  const std::vector<double> weights = {0.3, 5.0, 1.25};
  const Blend blend(weights, 1000);
  std::vector<std::int64_t> counts(3, 0);
  for (std::int64_t i = 0; i < 5500; ++i) {
    const Blend::Entry entry = blend.at(i);
    EXPECT_EQ(entry.index, counts[static_cast<std::size_t>(entry.source)]++);
  }
  const std::vector<double> shares = normalized(weights);
  for (std::size_t source = 0; source < 3; ++source) {
    EXPECT_NEAR(static_cast<double>(counts[source]), 5500 * shares[source], 6);
  }
}

TEST(SplitDocuments, RoundsCumulativeShares) {
  const auto range = [](const std::string& split, DatasetPart part, std::int64_t documents) {
    const DocumentRange r = split_documents(split, part, documents);
    return std::pair(r.begin, r.end);
  };
  using Range = std::pair<std::int64_t, std::int64_t>;
  EXPECT_EQ(range("969,30,1", DatasetPart::kTrain, 1000), Range(0, 969));
  EXPECT_EQ(range("969,30,1", DatasetPart::kValidation, 1000), Range(969, 999));
  EXPECT_EQ(range("969,30,1", DatasetPart::kTest, 1000), Range(999, 1000));
  EXPECT_EQ(range("1,1", DatasetPart::kTrain, 5), Range(0, 2));  // 2.5 rounds to even
  EXPECT_EQ(range("1,1", DatasetPart::kTest, 5), Range(5, 5));
  EXPECT_EQ(range("", DatasetPart::kValidation, 5), Range(0, 5));
  for (const char* bad :
       {"a", "1,", ",1", "1,2,3,4", "0,0,0", "-1,2", "1;2", "nan", "inf,1", "1,,2"}) {
    EXPECT_THAT(testing::error_of([&] { split_documents(bad, DatasetPart::kTrain, 5); }),
                HasSubstr("expected up to three numbers"))
        << bad;
  }
}

}  // namespace
}  // namespace polyhead
