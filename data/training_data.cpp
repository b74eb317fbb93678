#include "data/training_data.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "framework/error.h"

namespace polyhead {
namespace {

// Positions after which the blend of polyhead's order repeats; a source with a smaller share than
// its inverse would never be read.
constexpr std::int64_t kBlendPeriod = 65536;

const char* name_of(DatasetPart part) {
  switch (part) {
    case DatasetPart::kTrain:
      return "training";
    case DatasetPart::kValidation:
      return "validation";
    case DatasetPart::kTest:
      return "testing";
  }
  POLYHEAD_CHECK(false, "dataset part {}", static_cast<int>(part));
}

std::vector<double> weights_of(const std::vector<DataSource>& sources) {
  std::vector<double> weights;
  for (const DataSource& source : sources) {
    require(std::isfinite(source.weight) && source.weight > 0,
            "{}: weight {} is not a positive number", source.path, source.weight);
    weights.push_back(source.weight);
  }
  return weights;
}

// Megatron asks each of several sources for half a percent more than its share.
std::vector<std::int64_t> megatron_samples(const std::vector<double>& shares,
                                           std::int64_t num_samples) {
  if (shares.size() == 1) return {num_samples};
  std::vector<std::int64_t> samples;
  for (const double share : shares) {
    const double share_of_run = std::ceil(static_cast<double>(num_samples) * share);
    samples.push_back(static_cast<std::int64_t>(std::ceil(share_of_run * (1 + 0.005))));
  }
  return samples;
}

}  // namespace

TrainingData::TrainingData(const TrainingDataOptions& options) : options_(options) {
  const std::int64_t length = options_.sequence_length;
  require(!options_.sources.empty(), "no dataset is named; set data.train");
  require(length > 0, "sequence_length {} is not positive", length);
  const bool megatron = options_.order == SampleOrder::kMegatron;
  require(!megatron || options_.num_samples > 0,
          "sample_order: megatron needs the number of samples of the whole run");
  const std::vector<double> weights = weights_of(options_.sources);
  const std::vector<double> shares = normalized(weights);
  for (std::size_t i = 0; i < shares.size(); ++i) {
    require(megatron || shares[i] >= 2.0 / static_cast<double>(kBlendPeriod),
            "{}: weight {} is too small beside the others, the source would hardly be read",
            options_.sources[i].path, weights[i]);
  }

  std::vector<IndexedDataset> datasets;
  for (const DataSource& source : options_.sources) {
    try {
      datasets.emplace_back(source.path);
    } catch (const Error& error) {
      fail("{}: {}", options_.key, error.what());
    }
  }
  vocabulary_ = find_vocabulary(datasets, options_.tokenizer, options_.vocab_size);
  require(!options_.eod_mask_loss || vocabulary_.eod_id.has_value(),
          "data.eod_mask_loss: nothing tells which token ends a document of {}; set data.tokenizer",
          options_.sources.front().path);
  const std::vector<std::int64_t> samples = megatron_samples(shares, options_.num_samples);
  for (std::size_t i = 0; i < datasets.size(); ++i) add_source(std::move(datasets[i]), samples[i]);
  if (sources_.size() > 1) blend_.emplace(weights, megatron ? options_.num_samples : kBlendPeriod);
  sample_.resize(static_cast<std::size_t>(length) + 1);
}

void TrainingData::add_source(IndexedDataset dataset, std::int64_t num_samples) {
  const DocumentRange documents =
      split_documents(options_.split, options_.part, dataset.document_count());
  std::vector<std::int32_t> lengths;
  for (std::int64_t i = documents.begin; i < documents.end; ++i) {
    lengths.push_back(static_cast<std::int32_t>(dataset.document_length(i)));
  }
  const std::string prefix = dataset.prefix();
  try {
    if (options_.order == SampleOrder::kMegatron) {
      MegatronOrder order(std::move(lengths), options_.sequence_length, options_.seed, num_samples);
      sources_.push_back({std::move(dataset), documents, std::move(order)});
    } else {
      EpochOrder order(std::move(lengths), options_.sequence_length, options_.seed,
                       static_cast<std::int64_t>(sources_.size()));
      sources_.push_back({std::move(dataset), documents, std::move(order)});
    }
  } catch (const Error& error) {
    fail("{}: documents [{}, {}) for {}: {}", prefix, documents.begin, documents.end,
         name_of(options_.part), error.what());
  }
}

Batch TrainingData::batch(std::int64_t first, std::int64_t count) {
  const std::int64_t tokens = count * options_.sequence_length;
  Batch batch;
  batch.tokens = Tensor::empty({tokens}, DType::kI32);
  batch.targets = Tensor::empty({tokens}, DType::kI32);
  if (!options_.attend_across_documents) {
    batch.document_start = Tensor::empty({tokens}, DType::kI32);
  }
  for (std::int64_t i = 0; i < count; ++i) read_sample(first + i, i, batch);
  return batch;
}

void TrainingData::read_sample(std::int64_t position, std::int64_t row, Batch& batch) {
  const Blend::Entry entry = blend_ ? blend_->at(position) : Blend::Entry{0, position};
  Source& source = sources_[static_cast<std::size_t>(entry.source)];
  const std::int64_t length = options_.sequence_length;
  std::int32_t* tokens = batch.tokens.data<std::int32_t>() + row * length;
  std::int32_t* targets = batch.targets.data<std::int32_t>() + row * length;

  std::int64_t filled = 0;
  for (const TokenRange& range :
       std::visit([&](auto& order) { return order.sample(entry.index); }, source.order)) {
    const std::int64_t count = range.end - range.begin;
    source.dataset.read(source.documents.begin + range.document, range.begin,
                        std::span(sample_).subspan(static_cast<std::size_t>(filled),
                                                   static_cast<std::size_t>(count)),
                        vocabulary_.size);
    if (batch.document_start) {
      std::int32_t* starts = batch.document_start.data<std::int32_t>() + row * length;
      std::fill(starts + filled, starts + std::min(filled + count, length),
                static_cast<std::int32_t>(filled));
    }
    filled += count;
  }
  POLYHEAD_CHECK(filled == length + 1, "sample {} has {} tokens", position, filled);

  std::copy_n(sample_.begin(), length, tokens);
  std::copy_n(sample_.begin() + 1, length, targets);
  batch.valid_targets += length;
  if (!options_.eod_mask_loss) return;
  for (std::int64_t i = 0; i < length; ++i) {
    if (tokens[i] != *vocabulary_.eod_id) continue;
    targets[i] = -1;
    --batch.valid_targets;
  }
}

std::int64_t TrainingData::token_count() const {
  std::int64_t tokens = 0;
  for (const Source& source : sources_) {
    for (std::int64_t i = source.documents.begin; i < source.documents.end; ++i) {
      tokens += source.dataset.document_length(i);
    }
  }
  return tokens;
}

std::vector<std::string> TrainingData::fingerprints() const {
  std::vector<std::string> all;
  for (const Source& source : sources_) all.push_back(source.dataset.fingerprint());
  return all;
}

}  // namespace polyhead
